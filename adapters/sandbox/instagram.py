"""An Instagram professional account on loopback: direct messages, comments, mentions, receipts, and people.

Sources: Meta, Instagram Messaging, Send a message; Webhooks, 2026-07; Instagram Platform, Private replies, 2026-06;
Comment moderation; IG User mentions, 2025-11. Failures are told at once, in the answer; echoes and reads come as
webhooks. By Instagram Login a change stands on its entry directly, through a Page it stands in `changes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Literal

from aiohttp import web

from adapters.sandbox._base import Accepted, Webhook
from adapters.sandbox._meta_platform import MetaPlatform, echoed, iso
from adapters.sandbox._meta_world import DIRECT, Behaviour, Comment, Customer, Refusal, Rules

__all__ = ["INBOX", "Behaviour", "Comment", "Customer", "InstagramAccount"]

INBOX: Final = 1217981644879628  # the app staff write with
_COMMENT_MAX = 2200  # characters, unverified
_MENTIONED = re.compile(r"mentioned_(comment|media)\.\w+\((\d+)\)\{[\w,]+\}")


class InstagramAccount(MetaPlatform):
    """One account, called `handle`. With `page_id` it is reached through that Page, else by Instagram Login."""

    object_name: ClassVar[str] = "instagram"
    rules: ClassVar[Rules] = DIRECT
    inbox: ClassVar[int] = INBOX
    _mid_prefix: ClassVar[str] = "aWdf"

    def __init__(
        self,
        *,
        instagram_id: str = "17840000001",
        page_id: str = "",
        handle: str = "the.shop",
        app_id: str = "555444333",
        access_token: str = "sandbox-token",  # noqa: S107 - opens nothing but this sandbox
        app_secret: str = "sandbox-app-secret",  # noqa: S107
        webhook_url: str = "",
        version: str = "v23.0",
        port: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            instagram_id, app_id=app_id, access_token=access_token, app_secret=app_secret, webhook_url=webhook_url,
            version=version, port=port, seed=seed,
        )  # fmt: skip
        self.instagram_id, self.page_id, self.handle = instagram_id, page_id, handle
        self.login: Literal["instagram", "page"] = "page" if page_id else "instagram"
        if page_id:
            self.nodes = {page_id, "me"}
        self.mentions: dict[str, Comment] = {}  # what stands elsewhere and mentions us, by comment or media
        self._talks: dict[str, list[dict[str, Any]]] = {}  # of each person, our messages, oldest first

    # --- the platform's calls -----------------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The edges of Graph that an account's app calls."""
        edge = f"/{self.version}/{{node}}"
        return (
            *super().routes(),
            web.post(edge + "/replies", self._sending(self._reply)),
            web.post(edge + "/comments", self._sending(self._comment)),
            web.post(edge + "/mentions", self._sending(self._answer_mention)),
            web.get(edge + "/replies", self._called(self._list)),
            web.get(edge + "/comments", self._called(self._list)),
            web.get(edge + "/conversations", self._called(self._conversations)),
            web.get(edge, self._called(self._node)),
            web.post(edge, self._called(self._moderate)),
            web.delete(edge, self._called(self._remove)),
            web.get("/refresh_access_token", self._refresh),
        )

    async def _refresh(self, request: web.Request) -> web.Response:
        """A new token for the one that lives: 60 days more. The old one is no longer taken here."""
        query = request.query
        if query.get("access_token") != self.access_token or query.get("grant_type") != "ig_refresh_token":
            return Refusal(190, "Error validating access token", 463, 401).answer()
        self.access_token = f"renewed-{self.random.getrandbits(64):016x}"
        return web.json_response({"access_token": self.access_token, "token_type": "bearer", "expires_in": 5_184_000})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        if self.login != "page" or form.get("platform") != "instagram":
            raise Refusal(100, "Unsupported post request", 33)
        return await super()._upload(request)

    def _use_private_reply(self, ref: str, message: Mapping[str, Any]) -> None:
        if "text" not in message:
            raise Refusal(100, "a private reply holds text only", 2018015)
        super()._use_private_reply(ref, message)

    async def _reply(self, request: web.Request) -> web.Response:
        """Below the top comment, whichever is answered."""
        target = self.comments.get(request.match_info["node"])
        if target is None or target.hidden or target.id == target.post:
            raise Refusal(100, "Object does not exist or cannot be loaded", 33)
        if target.live:
            raise Refusal(100, "a live comment takes no reply")
        top = target.parent if target.parent != target.post else target.id
        return self._made(await self._words(request), target.post, top, target.id)

    async def _comment(self, request: web.Request) -> web.Response:
        target = self.comments.get(request.match_info["node"])
        if target is None or target.id != target.post:
            raise Refusal(100, "Object does not exist or cannot be loaded", 33)
        return self._made(await self._words(request), target.post, target.post, target.post)

    async def _answer_mention(self, request: web.Request) -> web.Response:
        body = await request.json()
        found = self.mentions.get(str(body.get("comment_id") or body.get("media_id")))
        if request.match_info["node"] != self.instagram_id or found is None or found.post != body.get("media_id"):
            raise Refusal(100, "Object does not exist or cannot be loaded", 33)
        return self._made(await self._words(request), found.post, found.id, found.id, tell=False)

    async def _words(self, request: web.Request) -> str:
        words = str((await request.json()).get("message", ""))
        if not words or len(words) > _COMMENT_MAX:
            raise Refusal(100, "Invalid parameter: message")
        return words

    def _made(self, words: str, post: str, parent: str, target: str, *, tell: bool = True) -> web.Response:
        made = self._keep(self.instagram_id, words, post, parent)
        self.record(Accepted("", made.id, target, {"message": words}))
        if tell and self.webhook_url:
            self.report([self._change("comments", self._told(made))])
        return web.json_response({"id": made.id})

    async def _list(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        return web.json_response({"data": [self._shown(one) for one in self.comments.values() if one.parent == node]})

    async def _conversations(self, request: web.Request) -> web.Response:
        self._check_node(request)
        talk = self._talks.get(request.query.get("user_id", ""), [])
        return web.json_response({"data": [{"id": "t_1", "messages": {"data": talk[::-1]}}] if talk else []})

    async def _node(self, request: web.Request) -> web.Response:
        self._read()
        node, fields = request.match_info["node"], request.query.get("fields", "")
        if mentioned := _MENTIONED.fullmatch(fields):
            found = self.mentions.get(mentioned[2])
            if node != self.instagram_id or found is None:
                raise Refusal(100, "Object does not exist or cannot be loaded", 33)
            words = {"text": found.text} if mentioned[1] == "comment" else {"caption": found.text}
            return web.json_response({"id": node, f"mentioned_{mentioned[1]}": {**words, "timestamp": iso(found.at)}})
        if node == "me" and self.login == "instagram":
            return web.json_response({"user_id": self.instagram_id, "username": self.handle, "id": "9000000001"})
        if node == self.page_id:
            return web.json_response({"id": node, "instagram_business_account": {"id": self.instagram_id}})
        if (customer := self.customers.get(node)) is not None:
            return web.json_response(self._profile(customer))
        if (comment := self.comments.get(node)) is not None:
            return web.json_response(self._shown(comment))
        if node in self._messages:
            return web.json_response(self._files_of(node))
        raise Refusal(100, f"Object with ID '{node}' does not exist", 33)

    def _profile(self, customer: Customer) -> dict[str, Any]:
        if customer.last_wrote is None or customer.hidden:
            raise Refusal(230, "User consent is required to access user profile")
        counted = {"follower_count": 12, "is_user_follow_business": True, "is_verified_user": False}
        return {"id": customer.id, "name": customer.name, "username": customer.handle} | counted

    async def _moderate(self, request: web.Request) -> web.Response:
        comment = self._moderated(request)
        if comment.author == self.instagram_id:
            raise Refusal(100, "the account's own comments cannot be hidden")
        comment.hidden = bool((await request.json())["hide"])
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

    def media(self) -> str:
        """The account posts something; its id. Nothing is told of it."""
        return self._keep(self.instagram_id, "News").id

    # --- what people and the platform do ------------------------------------------------------------------------------

    async def customer_unsends(self, customer: Customer, mid: str) -> int:
        """A message is taken back."""
        return await self.post(messaging=[self._item(customer, {"message": {"mid": mid, "is_deleted": True}})])

    async def customer_comments(
        self, customer: Customer, text: str, /, post: str, parent: str = "", *, live: bool = False, **more: Any
    ) -> str:
        """A comment below our media or a comment; its id. `more` joins what the change tells."""
        self.add_customer(customer)
        made = self._keep(customer.commenter or customer.id, text, post, parent or post)
        made.live = live
        webhook = self._change("live_comments" if live else "comments", self._told(made) | more)
        await self.post_webhook(webhook.url, webhook.body, webhook.headers)
        return made.id

    async def customer_mentions(self, text: str, *, caption: bool = False) -> str:
        """We are mentioned below somebody else's media, or in its caption: the id of the comment or the media."""
        media = self._new_id("1799")
        found = Comment(media if caption else self._new_id("1801"), media, "", "", text, self.now())
        self.mentions[found.id] = found
        told = {"media_id": media} | ({} if caption else {"comment_id": found.id})
        webhook = self._change("mentions", told)
        await self.post_webhook(webhook.url, webhook.body, webhook.headers)
        return found.id

    # --- inside -------------------------------------------------------------------------------------------------------

    def _reports(self, mid: str, customer: Customer, message: Mapping[str, Any]) -> list[Webhook]:
        reports = [self._echo(mid, customer, echoed(message), int(self.app_id))]
        if customer.reads:
            reports.append(self._item(customer, {"read": {"mid": mid}}))
        return [self.delivery(messaging=[report]) for report in reports]

    def record(self, accepted: Accepted) -> None:
        """Beside what every platform remembers: the conversation as the API shows it."""
        super().record(accepted)
        if "recipient" in accepted.payload:
            written = {
                "id": accepted.external_id, "created_time": iso(self.now()), "from": {"id": self.instagram_id},
                "message": accepted.payload["message"].get("text", ""),
            }  # fmt: skip
            self._talks.setdefault(accepted.to, []).append(written)

    def _keep(self, author: str, text: str, post: str = "", parent: str = "") -> Comment:
        name = self._new_id("1801" if post else "1795")
        made = Comment(name, post or name, parent or name, author, text, self.now())
        self.comments[name] = made
        return made

    def _told(self, comment: Comment) -> dict[str, Any]:
        author = {"id": comment.author, "username": self._handle(comment)}
        value = {"id": comment.id, "from": author, "text": comment.text}
        value["media"] = {"id": comment.post, "media_product_type": "FEED"}
        return value | ({"parent_id": comment.parent} if comment.parent != comment.post else {})

    def _change(self, field: str, value: Mapping[str, Any]) -> Webhook:
        if self.login == "instagram":
            return self.delivery(field=field, value=value)
        return self.delivery(changes=[{"field": field, "value": value}])

    def _shown(self, comment: Comment) -> dict[str, Any]:
        """A comment as the API shows it when asked."""
        handle = self._handle(comment)
        shown = {"id": comment.id, "text": comment.text, "timestamp": iso(comment.at), "username": handle}
        return shown | {"from": {"id": comment.author, "username": handle}}

    def _handle(self, comment: Comment) -> str:
        author = self._author(comment)
        return author.handle if author is not None else self.handle
