"""A Facebook Page on loopback: Messenger, comments and posts, files, receipts, and people who write.

Sources: Meta, Messenger Platform, Send a message, 2026-05; Private Replies, 2026-04; Pages API, Comments, 2026-04.
Failures are told at once, in the answer; deliveries, reads and echoes come as webhooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from aiohttp import web

from adapters.sandbox._base import Accepted, Webhook
from adapters.sandbox._meta_platform import MetaPlatform, echoed, iso
from adapters.sandbox._meta_world import MESSENGER, Behaviour, Comment, Customer, Refusal, Rules

__all__ = ["PAGE_INBOX", "Behaviour", "Comment", "Customer", "FacebookPage"]

PAGE_INBOX: Final = 263902037430900  # the app staff write with


class FacebookPage(MetaPlatform):
    """One Page of one app. `webhook_url` is where our gateway listens; empty: nothing is posted."""

    object_name: ClassVar[str] = "page"
    rules: ClassVar[Rules] = MESSENGER
    inbox: ClassVar[int] = PAGE_INBOX

    def __init__(
        self,
        *,
        page_id: str = "110220330",
        app_id: str = "555444333",
        access_token: str = "sandbox-token",  # noqa: S107 - opens nothing but this sandbox
        app_secret: str = "sandbox-app-secret",  # noqa: S107
        webhook_url: str = "",
        version: str = "v23.0",
        port: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            page_id, app_id=app_id, access_token=access_token, app_secret=app_secret, webhook_url=webhook_url,
            version=version, port=port, seed=seed,
        )  # fmt: skip

    @property
    def page_id(self) -> str:
        """The Page's id."""
        return self.account_id

    # --- the platform's calls -----------------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The edges of Graph that a Page's app calls."""
        edge = f"/{self.version}/{{node}}"
        return (
            *super().routes(),
            web.post(edge + "/comments", self._sending(self._comment)),
            web.post(edge + "/photos", self._called(self._upload)),
            web.get(edge + "/comments", self._called(self._list_comments)),
            web.get(edge + "/conversations", self._called(self._conversations)),
            web.get(edge, self._called(self._node)),
            web.post(edge, self._called(self._moderate)),
            web.delete(edge, self._called(self._remove)),
        )

    async def _comment(self, request: web.Request) -> web.Response:
        target = self.comments.get(request.match_info["node"])
        if target is None or target.hidden:
            raise Refusal(100, "Object does not exist or cannot be loaded", 33)
        body = await request.json()
        words = str(body.get("message", ""))
        if not words and not (body.get("attachment_id") or body.get("attachment_url")):
            raise Refusal(100, "message or attachment is needed")
        last = next((one for one in reversed(self.comments.values()) if one.author == self.page_id), None)
        if last is not None and words and last.text == words and last.parent == target.id:
            raise Refusal(506, "Duplicate status message")
        made = self._keep(self.page_id, words, target.post, target.id)
        self.record(Accepted("", made.id, target.id, body))
        self.report([self.delivery(changes=[self._change(made, "comment", "add")])])
        return web.json_response({"id": made.id})

    async def _list_comments(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        found = [
            _shown(one, self._name(one.author)) for one in self.comments.values() if node in (one.parent, one.post)
        ]
        return web.json_response({"data": found[::-1]})

    async def _conversations(self, request: web.Request) -> web.Response:
        customer = self.customers.get(request.query.get("user_id", ""))
        people = [{"id": customer.id, "name": customer.name}] if customer else []
        return web.json_response({"data": [{"participants": {"data": people}, "id": "t_1"}] if people else []})

    async def _node(self, request: web.Request) -> web.Response:
        self._read()
        node = request.match_info["node"]
        if node == self.page_id:
            return web.json_response({"id": node, "name": "The Shop"})
        if (customer := self.customers.get(node)) is not None and not customer.hidden:
            first, _, last = customer.name.partition(" ")
            return web.json_response({"id": node, "first_name": first, "last_name": last, "name": customer.name})
        if (comment := self.comments.get(node)) is not None:
            return web.json_response(_shown(comment, self._name(comment.author)))
        if node in self._messages:
            return web.json_response(self._files_of(node))
        raise Refusal(100, f"Object with ID '{node}' does not exist", 33)

    async def _moderate(self, request: web.Request) -> web.Response:
        comment = self._moderated(request)
        comment.hidden = bool((await request.json())["is_hidden"])
        await self.post(changes=[self._change(comment, "comment", "hide" if comment.hidden else "unhide")])
        return web.json_response({"success": True})

    async def _remove(self, request: web.Request) -> web.Response:
        del self.comments[self._moderated(request).id]
        return web.json_response({"success": True})

    def _moderated(self, request: web.Request) -> Comment:
        comment = self.comments.get(request.match_info["node"])
        if comment is None or comment.id == comment.post:
            raise Refusal(100, "Object does not exist or cannot be loaded", 33)
        return comment

    # --- what tests and demos set up ----------------------------------------------------------------------------------

    def page_post(self, text: str = "News") -> str:
        """The Page posts; the post's id. Nothing is told of it."""
        return self._keep(self.page_id, text).id

    # --- what people and the platform do ------------------------------------------------------------------------------

    async def customer_comments(
        self, customer: Customer, text: str, post: str, parent: str = "", *,
        attachment: Mapping[str, Any] | None = None, **more: Any,
    ) -> str:  # fmt: skip
        """A comment below a post or a comment; its id. `more` joins what the change tells; of an `attachment` (a
        sticker, a GIF) only a look-up tells."""
        self.add_customer(customer)
        made = self._keep(_author(customer), text, post, parent or post)
        made.attachment = attachment or {}
        change = self._change(made, "comment", "add")
        change["value"] |= more
        await self.post(changes=[change])
        return made.id

    async def customer_posts(self, customer: Customer, text: str) -> str:
        """A visitor's post on the Page; its id."""
        self.add_customer(customer)
        made = self._keep(_author(customer), text)
        await self.post(changes=[self._change(made, "post", "add")])
        return made.id

    async def comment_changes(self, ref: str, verb: str, text: str = "") -> None:
        """A comment is edited, removed, hidden or shown again: the change is posted."""
        comment = self.comments[ref]
        if verb == "edited":
            comment.text = text
        comment.hidden = verb == "hide" or (comment.hidden and verb != "unhide")
        change = self._change(comment, "comment", verb)
        if verb == "remove":
            del self.comments[ref], change["value"]["message"]
        await self.post(changes=[change])

    # --- inside -------------------------------------------------------------------------------------------------------

    def _reports(self, mid: str, customer: Customer, message: Mapping[str, Any]) -> list[Webhook]:
        watermark = int(self.now() * 1000)
        delivery = {"watermark": watermark} | ({"mids": [mid]} if self.behaviour.mids_in_deliveries else {})
        reports = [
            self._echo(mid, customer, echoed(message), int(self.app_id)),
            self._item(customer, {"delivery": delivery}),
        ]
        if customer.reads:
            reports.append(self._item(customer, {"read": {"watermark": watermark}}))
        return [self.delivery(messaging=[report]) for report in reports]

    def _keep(self, author: str, text: str, post: str = "", parent: str = "") -> Comment:
        number = self._new_id("")
        name = f"{post.rpartition('_')[2]}_{number}" if post else f"{self.page_id}_{number}"
        made = Comment(name, post or name, parent or post or name, author, text, self.now())
        self.comments[name] = made
        return made

    def _change(self, comment: Comment, item: str, verb: str) -> dict[str, Any]:
        value = {
            "item": item, "verb": verb, "post_id": comment.post, "created_time": int(comment.at),
            "from": {"id": comment.author, "name": self._name(comment.author)}, "message": comment.text,
        }  # fmt: skip
        if item == "comment":
            post = {"id": comment.post, "permalink_url": f"https://facebook.example/{comment.post}"}
            value |= {"comment_id": comment.id, "parent_id": comment.parent, "post": post}
        return {"field": "feed", "value": value}

    def _name(self, author: str) -> str:
        return next((one.name for one in self.customers.values() if _author(one) == author), "The Shop")


def _author(customer: Customer) -> str:
    return customer.commenter or customer.id


def _shown(comment: Comment, name: str) -> dict[str, Any]:
    """A comment as the API shows it when asked."""
    shown = {
        "id": comment.id, "message": comment.text, "from": {"id": comment.author, "name": name},
        "created_time": iso(comment.at), "permalink_url": f"https://facebook.example/{comment.id}",
    }  # fmt: skip
    return shown | ({"attachment": dict(comment.attachment)} if comment.attachment else {})
