"""The OpenAPI 3.1 document, made from the table of routes and the types they name: it says what the code does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from gateway.web.problems import CONTENT_TYPE, PROBLEMS, ProblemDetails
from gateway.web.routes import OneOf, Param, Route

VERSION = "1.0.0"
_REF = "#/components/schemas/{name}"
_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}
_DESCRIPTION = (
    "Everything customers write on any channel, as contacts, tickets and messages; and the way back, through the rules "
    "of each channel. Times are RFC 3339, UTC. Lists are pages: `next` is the cursor of the page after it."
)
_HEADERS = {
    "If-Match": "the ETag that was seen: it is done only if what it was of is still the same",
    "If-None-Match": "the ETag of what is there already: it is not sent again",
    "Idempotency-Key": "The same key again gives the same answer; with another body 409",
    "Last-Event-ID": "The id of the last event received: the stream goes on after it",
    "Range": "Which bytes are wanted: `bytes=0-1023`",
}
_ANSWERS = {  # what a status says by itself, whatever was asked for
    206: "The part that `Range` names",
    304: "Nothing has changed since `If-None-Match` or `If-Modified-Since`",
    412: "It is not what `If-Match` or `If-Unmodified-Since` says any more",
    416: "There is nothing where `Range` points",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document."""
    table = tuple(routes)
    kinds = list(dict.fromkeys(kind for route in table for kind in _types(route)))
    kinds.append(ProblemDetails)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Channel gateway", "version": VERSION, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in table)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer gw_...`"}
            },
        },
    }


def _several(kind: Any) -> tuple[Any, ...]:
    return kind.kinds if isinstance(kind, OneOf) else kind if isinstance(kind, tuple) else (kind,)


def _types(route: Route) -> Iterator[Any]:
    for kind in (route.body, *route.answers.values()):
        yield from (entry for entry in _several(kind) if entry not in (None, bytes, str))


def _schema(kind: Any, schema_of: dict[Any, Any]) -> Any:
    found = [
        _BINARY if entry is bytes else {"type": "string"} if entry is str else schema_of[entry]
        for entry in _several(kind)
    ]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "description": (route.handler.__doc__ or "").strip(),
        "tags": [route.tag],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.names),
            *(_parameter(param) for param in route.params),
            *(
                {"name": name, "in": "header", "schema": {"type": "string"}, "description": _HEADERS[name]}
                for name in route.headers
            ),
        ],
        "responses": _responses(route, schema_of),
    }
    if route.scope:
        found["x-scope"] = route.scope
    else:
        found["security"] = []
    if route.body is not None:
        content = {"application/json": {"schema": _schema(route.body, schema_of)}}
        found["requestBody"] = {"required": True, "content": content}
    elif route.form:
        form = {"type": "object", "properties": {"file": _BINARY}, "required": ["file"], "additionalProperties": False}
        found["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return found


def _parameter(param: Param) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": {"text": "string", "int": "integer", "bool": "boolean"}[param.type]}
    for name, value in (("minimum", param.minimum), ("maximum", param.maximum)):
        if value is not None:
            schema[name] = value
    if param.choices and not param.many:
        schema["enum"] = list(param.choices)
    found: dict[str, Any] = {"name": param.name, "in": "query", "description": param.meaning, "schema": schema}
    if param.many:
        items = {"type": "string", "enum": list(param.choices)} if param.choices else {"type": "string"}
        found |= {"schema": {"type": "array", "items": items}, "style": "form", "explode": False}
    if param.prefix:
        found["name"] = f"{param.name}NAME"
    return found


def _responses(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, kind in route.answers.items():
        found[str(status)] = {"description": _ANSWERS.get(status, route.summary)}
        if kind is not None:
            schema = _schema(kind, schema_of)
            found[str(status)]["content"] = {media: {"schema": schema} for media in (route.media, *route.other_media)}
    by_status: dict[int, list[str]] = {}
    for code in route.usual_errors:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        found[str(status)] = {
            "description": "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in codes),
            "content": {CONTENT_TYPE: {"schema": schema_of[ProblemDetails]}},
        }
    return dict(sorted(found.items()))
