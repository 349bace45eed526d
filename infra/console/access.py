"""Who may see the console: whoever has the token. Wraps the whole application, its websocket too.

The token in an address (`?token=...`) is exchanged for a cookie that holds what is derived from it, and the
browser is sent to the address without it. Everything but /healthz needs the cookie.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE_FOR_S = 30 * 86_400
LOOPBACK_NAMES = ("localhost", "localhost.localdomain")
# Vue compiles its templates in the browser and NiceGUI's page holds its own scripts: hence the two 'unsafe-'.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
REFUSED = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Millstream</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 20vh auto; max-width: 60ch; padding: 0 24px }}
</style></head><body><h1>Millstream</h1><p>{line}</p></body></html>
"""
HOW = (
    "The console is opened by its token: use the whole address that <code>make console</code> prints, or add "
    "<code>?token=</code> with what is in <code>.millstream/console.token</code> or MILLSTREAM_CONSOLE_TOKEN."
)
WRONG_HOST = "This address does not belong to the console: open it by the one that it prints."


class Guard:
    """An ASGI application in front of another one, which only requests with the token reach.

    Also what a page of another origin sends is refused, and on a loopback address whatever was asked for
    under another name than loopback's own (DNS rebinding).
    """

    def __init__(self, app: Application, token: str, *, loopback: bool, cookie: str) -> None:
        """`cookie` is its name: cookies know no ports, so two consoles of a host need two names."""
        self.app = app
        self._token, self._loopback, self._cookie = token, loopback, cookie
        self._pass = hmac.new(token.encode(), b"millstream console cookie", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            if self._is_refused(scope) or not self._has_pass(scope):
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/healthz":
            await _answer(send, 200, "ok", kind="text/plain; charset=utf-8")
        elif self._is_refused(scope):
            await _answer(send, 403, REFUSED.format(line=WRONG_HOST))
        elif (given := _query(scope).get("token")) is not None:
            await self._exchange(scope, send, given)
        elif self._has_pass(scope):
            await self.app(scope, receive, _with_headers(send))
        else:
            await _answer(send, 401, REFUSED.format(line=HOW))

    async def _exchange(self, scope: Scope, send: Send, given: str) -> None:
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            await _answer(send, 401, REFUSED.format(line=HOW))
            return
        rest = urlencode({name: value for name, value in _query(scope).items() if name != "token"})
        where = "/" + quote(scope["path"].lstrip("/")) + (f"?{rest}" if rest else "")
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = (
            f"{self._cookie}={self._pass}; Path=/; Max-Age={COOKIE_FOR_S}; HttpOnly; SameSite=Strict{secure}"
        )
        await _answer(send, 303, "", more={"location": where, "set-cookie": cookie})

    def _has_pass(self, scope: Scope) -> bool:
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(_header(scope, "cookie"))
        except CookieError:
            return False
        given = jar[self._cookie].value if self._cookie in jar else ""
        return hmac.compare_digest(given.encode(), self._pass.encode())

    def _is_refused(self, scope: Scope) -> bool:
        host, origin = _header(scope, "host"), _header(scope, "origin")
        if self._loopback and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return True
        return bool(origin) and urlsplit(origin).netloc != host


def is_loopback(name: str) -> bool:
    """Whether a host's name or address can only mean this machine."""
    if name in LOOPBACK_NAMES:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _header(scope: Scope, name: str) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()), "")


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def _with_headers(send: Send) -> Send:
    """Add the headers to an answer; a policy of its own stays."""

    async def sending(event: Event) -> None:
        if event["type"] == "http.response.start":
            there = {name.lower() for name, _ in event.get("headers", ())}
            added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in there]
            event = {**event, "headers": [*event.get("headers", ()), *added]}
        await send(event)

    return sending


async def _answer(
    send: Send,
    status: int,
    body: str,
    *,
    kind: str = "text/html; charset=utf-8",
    more: dict[str, str] | None = None,
) -> None:
    data = body.encode()
    headers = {"content-type": kind, "content-length": str(len(data)), "cache-control": "no-store", **HEADERS}
    pairs = [(name.encode(), value.encode()) for name, value in {**headers, **(more or {})}.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": data})
