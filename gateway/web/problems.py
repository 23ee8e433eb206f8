"""Errors as the API shows them: `application/problem+json` (RFC 9457) with a stable `code`.

`PROBLEMS` is the whole list: what is not in it is not answered, and the OpenAPI document is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error: its HTTP status and what it is called."""

    status: int
    title: str


PROBLEMS: dict[str, Kind] = {
    "malformed_body": Kind(400, "The body is not what its media type says"),
    "invalid_parameter": Kind(400, "A parameter is unknown or has a wrong value"),
    "invalid_cursor": Kind(400, "The cursor is not one of ours"),
    "duplicate_header": Kind(400, "A header that must stand once stands twice"),
    "unauthorized": Kind(401, "No valid API key or session"),
    "wrong_password": Kind(401, "Address and password do not fit"),
    "forbidden": Kind(403, "The caller may not do this"),
    "csrf": Kind(403, "A session's request must carry its token"),
    "not_found": Kind(404, "There is no such thing"),
    "method_not_allowed": Kind(405, "The method is not allowed here"),
    "body_timeout": Kind(408, "The body came too slowly"),
    "ticket_closed": Kind(409, "The ticket is closed"),
    "edit_conflict": Kind(409, "Somebody else changed it in between"),
    "view_limit": Kind(409, "There are too many views of this owner"),
    "built_in_view": Kind(409, "A built-in view cannot be changed"),
    "ticket_field_exists": Kind(409, "There is a ticket field with this name"),
    "wrong_state": Kind(409, "Not possible in this state"),
    "not_retryable": Kind(409, "Only a failed or unknown message is sent again"),
    "not_unknown": Kind(409, "Only an unknown message can be left as it is"),
    "not_cancellable": Kind(409, "Only a queued or held message can be cancelled"),
    "not_moderatable": Kind(409, "Only a public message that is still there can be moderated"),
    "idempotency_conflict": Kind(409, "The Idempotency-Key was used with another body"),
    "conflict_decided": Kind(409, "The conflict was decided"),
    "conflict": Kind(409, "The request contradicts what is stored"),
    "already_merged": Kind(409, "The contact was merged away"),
    "last_identity": Kind(409, "It is the contact's only identity"),
    "user_exists": Kind(409, "There is a user with this address"),
    "last_admin": Kind(409, "Somebody must stay an administrator"),
    "role_exists": Kind(409, "There is a role with this name"),
    "role_in_use": Kind(409, "Users have this role"),
    "group_exists": Kind(409, "There is a group with this name"),
    "attribute_exists": Kind(409, "There is an attribute with this name"),
    "attribute_in_use": Kind(409, "Contacts have values that the change would lose"),
    "values_not_unique": Kind(409, "Several contacts have the same value"),
    "standard_attribute": Kind(409, "A standard attribute cannot be removed or made into something else"),
    "attachment_not_stored": Kind(409, "The file is not here (yet)"),
    "precondition_failed": Kind(412, "It is not what If-Match says any more"),
    "too_large": Kind(413, "The body is too large"),
    "unsupported_media_type": Kind(415, "The body's media type or encoding is not taken here"),
    "invalid_body": Kind(422, "A field of the body is unknown, missing or wrong"),
    "merge_into_itself": Kind(422, "A contact cannot be merged into itself"),
    "unknown_attribute": Kind(422, "There is no such attribute"),
    "unknown_choice": Kind(422, "The value is not among the attribute's choices"),
    "wrong_type": Kind(422, "The value has the wrong type"),
    "invalid_value": Kind(422, "The value is not valid for its attribute"),
    "read_only_attribute": Kind(422, "A platform or a CRM fills this attribute; it cannot be edited"),
    "value_taken": Kind(422, "The attribute is unique, and another contact has this value"),
    "attested_value": Kind(422, "A value the platform attested cannot be changed"),
    "broken_file": Kind(422, "The file cannot be read as what it is said to be"),
    "unknown_field": Kind(422, "There is no such ticket field"),
    "required_field": Kind(422, "A field that is needed is empty"),
    "invalid_condition": Kind(422, "A condition is unknown or does not fit"),
    "unknown_user": Kind(422, "There is no such user"),
    "unknown_role": Kind(422, "There is no such role"),
    "unknown_group": Kind(422, "There is no such group"),
    "unknown_upload": Kind(422, "There is no such upload"),
    "unknown_channel": Kind(422, "No account serves this channel"),
    "unknown_account": Kind(422, "There is no such account"),
    "unknown_contact": Kind(422, "There is no such contact"),
    "no_address": Kind(422, "There is no address to write to on this channel"),
    "outbox_denied": Kind(422, "The rules refuse this message"),
    "rate_limited": Kind(429, "Too many requests"),
    "internal": Kind(500, "Our fault"),
    "platform_refused": Kind(502, "The platform did not do it"),
    "unavailable": Kind(503, "Not possible at the moment"),
}


class ProblemDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details. `code` is stable; `field` names what was wrong ("attachments[0].upload").

    `verdicts` (`VerdictView`) and `alternatives` (`AlternativeView`) stand beside the code outbox_denied.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    field: str = ""
    verdicts: list[dict[str, Any]] | None = None
    alternatives: list[dict[str, Any]] | None = None


class Problem(Exception):
    """An answer that is an error. Raised by handlers, rendered in one place."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        field: str = "",
        verdicts: list[dict[str, Any]] | None = None,
        alternatives: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail, self.field, self.verdicts = code, detail, field, verdicts
        self.alternatives = alternatives
        self.headers = dict(headers or {})
        self.status = PROBLEMS[code].status

    def response(self) -> web.Response:
        """The error as an HTTP response. What is refused for the moment says when to come back."""
        kind = PROBLEMS[self.code]
        if kind.status == 503:
            self.headers.setdefault("Retry-After", "5")
        if kind.status == 401:
            self.headers.setdefault("WWW-Authenticate", "Bearer")
        body = ProblemDetails(
            type=f"/api/docs#{self.code}",
            title=kind.title,
            status=kind.status,
            code=self.code,
            detail=self.detail,
            field=self.field,
            verdicts=self.verdicts,
            alternatives=self.alternatives,
        )
        return web.Response(
            status=kind.status, body=msgspec.json.encode(body), content_type=CONTENT_TYPE, headers=self.headers
        )
