"""Whether X posts to us: webhooks that failed their checks are switched on again, missing subscriptions made.

Sources: X, V2 Webhooks; X Activity API, Subscriptions, 2026-08. Webhooks and the list of subscriptions belong to the
app, which asks with a token of its own; a subscription is one kind of event of one account, and is made in the name of
that account's user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from adapters._errors import SendError
from adapters._http import Http
from adapters._x_api import Keys, success
from adapters._x_oauth2 import AccessTokens
from normalizers._fields import items, mapping, text

_HOOKS, _SUBSCRIPTIONS = "/2/webhooks", "/2/activity/subscriptions"
_DUPLICATE = frozenset({"355", "409", "DuplicateSubscriptionFailed"})  # it is there already


class Webhooks:
    """Looks after the webhooks of one app and the subscriptions of one account. All calls raise `SendError`."""

    def __init__(self, keys: Keys, base: str, http: Http) -> None:
        self._keys, self._base, self._http = keys, base.rstrip("/"), http

    async def revive(self) -> bool:
        """Have X check the webhooks again that it has switched off; True when there was one."""
        bearer, revived = await self._app_token(), False
        for _, hook in items(await self._get(_HOOKS, bearer), "data"):
            if hook.get("valid") is False:
                path = f"{_HOOKS}/{quote(text(hook, 'id'), safe='')}"
                success(await self._http.request("PUT", f"{self._base}{path}", bearer=bearer), (bearer,))
                revived = True
        return revived

    async def complete(self, user_id: str, account: str, wanted: Sequence[str], tokens: AccessTokens) -> bool:
        """Make the subscriptions that are missing; True when there was one.

        Which of the app's webhooks is ours is seen by its address, which ends in our account's name.
        """
        bearer = await self._app_token()
        there = {
            text(one, "event_type")
            for _, one in items(await self._get(_SUBSCRIPTIONS, bearer), "data")
            if text(mapping(one, "filter"), "user_id") == user_id
        }
        missing = [kind for kind in wanted if kind not in there]
        if not missing:
            return False
        hooks = [hook for _, hook in items(await self._get(_HOOKS, bearer), "data")]
        ours = next((text(hook, "id") for hook in hooks if text(hook, "url").endswith(f"/webhooks/{account}")), "")
        if not ours:
            raise SendError("permanent", "no-webhook", f"the app has no webhook that ends in /webhooks/{account}")
        for kind in missing:
            body = {"event_type": kind, "filter": {"user_id": user_id}, "tag": account, "webhook_id": ours}
            await self._subscribe(body, tokens)
        return True

    async def _subscribe(self, body: dict[str, Any], tokens: AccessTokens) -> None:
        """A token X refuses is renewed once."""
        url, token = f"{self._base}{_SUBSCRIPTIONS}", await tokens.current()
        answer = await self._http.request("POST", url, json=msgspec.json.encode(body), bearer=token)
        if answer.status == 401:
            token = await tokens.current(refused=token)
            answer = await self._http.request("POST", url, json=msgspec.json.encode(body), bearer=token)
        try:
            success(answer, (token,))
        except SendError as error:
            title = text(answer.json_or_empty(), "title")
            if error.code not in _DUPLICATE and title not in _DUPLICATE:
                raise

    async def _app_token(self) -> str:
        keys = self._keys
        basic = (quote(keys.consumer_key, safe=""), quote(keys.consumer_secret.reveal(), safe=""))
        form = (("grant_type", "client_credentials"),)
        answer = await self._http.request("POST", f"{self._base}/oauth2/token", form=form, basic=basic)
        return text(success(answer, (keys.consumer_secret,)), "access_token")

    async def _get(self, path: str, bearer: str) -> dict[str, Any]:
        return success(await self._http.request("GET", f"{self._base}{path}", bearer=bearer), (bearer,))
