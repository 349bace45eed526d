"""Who may see the console: the guard in front of pages, static files and the websocket."""

from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie
from typing import Any

import pytest

from infra.console.access import Event, Guard, Receive, Scope, Send, is_loopback

TOKEN = "a-token-of-the-test"
HOST = "127.0.0.1:8600"


class Inner:
    """The application behind the guard; it counts what reaches it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached.append(scope["type"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"figures"})
        else:
            await send({"type": "websocket.accept"})


class Asked:
    """A guard with an application behind it, and what it answered last."""

    def __init__(self, *, loopback: bool = True) -> None:
        self.inner = Inner()
        self.guard = Guard(self.inner, TOKEN, loopback=loopback, cookie="console")
        self.sent: list[Event] = []

    def ask(self, path: str = "/", query: str = "", kind: str = "http", **headers: str) -> int:
        """Ask; the status, or the websocket's close code (0: accepted)."""
        self.sent = []
        named = {"host": HOST, **headers}
        scope: dict[str, Any] = {
            "type": kind, "path": path, "query_string": query.encode(), "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }  # fmt: skip

        async def receive() -> Event:
            return {"type": "websocket.connect"}

        async def send(event: Event) -> None:
            self.sent.append(event)

        asyncio.run(self.guard(scope, receive, send))
        first = self.sent[0]
        return int(first.get("status", first.get("code", 0)))

    @property
    def headers(self) -> dict[str, str]:
        """Of the last answer."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> str:
        """Of the last answer."""
        return str(self.sent[1]["body"].decode())

    def cookie(self) -> str:
        """What a browser sends after it came with the token."""
        assert self.ask(query=f"token={TOKEN}") == 303
        jar = SimpleCookie(self.headers["set-cookie"])
        return f"console={jar['console'].value}"


@pytest.fixture
def asked() -> Asked:
    """A guard on loopback."""
    return Asked()


PATHS = (
    "/",
    "/fraud",
    "/_nicegui/3.18.0/static/nicegui.js",
    "/reports/batch-job/latest/report.html",
    "/logs/a/b/c",
)


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(asked: Asked, path: str) -> None:
    """401 and one line that says how to get in; the application is not even asked."""
    for cookie in ("", "console=wrong", "other=x", "console=\u00e9"):
        assert asked.ask(path, cookie=cookie) == 401
        assert "make console" in asked.body
        assert TOKEN not in asked.body
    assert asked.ask(path, query="token=wrong") == 401
    assert asked.inner.reached == []


def test_the_token_becomes_a_cookie_and_leaves_the_address(asked: Asked) -> None:
    """HttpOnly, SameSite=Strict, and not the token itself; the rest of the address stays."""
    assert asked.ask("/clusters", query=f"id=j-1&token={TOKEN}&set=0123abcd") == 303
    assert asked.headers["location"] == "/clusters?id=j-1&set=0123abcd"
    cookie = asked.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert asked.ask("//elsewhere.example/", query=f"token={TOKEN}") == 303
    assert asked.headers["location"] == "/elsewhere.example/"


def test_with_the_cookie_all_is_shown(asked: Asked) -> None:
    """With the headers that keep it to itself."""
    assert asked.ask(cookie=asked.cookie()) == 200
    assert asked.body == "figures"
    assert asked.headers["referrer-policy"] == "no-referrer"
    assert asked.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in asked.headers["content-security-policy"]


def test_the_websocket_needs_the_cookie_too(asked: Asked) -> None:
    """It is closed before it was accepted."""
    path = "/_nicegui_ws/socket.io/"
    assert asked.ask(path, kind="websocket") == 1008
    assert asked.ask(path, kind="websocket", query=f"token={TOKEN}") == 1008
    cookie = asked.cookie()
    assert asked.ask(path, kind="websocket", cookie=cookie, origin="http://elsewhere.example") == 1008
    assert asked.inner.reached == []
    assert asked.ask(path, kind="websocket", cookie=cookie, origin=f"http://{HOST}") == 0


def test_another_host_or_origin_is_refused(asked: Asked) -> None:
    """On loopback a name that is not loopback's own is DNS rebinding; another origin gets nothing."""
    cookie = asked.cookie()
    assert asked.ask(cookie=cookie, host="rebound.example:8600") == 403
    assert asked.ask(cookie=cookie, host="") == 403
    assert asked.ask(query=f"token={TOKEN}", host="rebound.example:8600") == 403
    assert asked.ask(cookie=cookie, origin="http://elsewhere.example") == 403
    assert asked.ask(cookie=cookie, origin="null") == 403
    assert asked.ask(cookie=cookie, host="localhost:8600") == 200
    elsewhere = Asked(loopback=False)
    assert elsewhere.ask(cookie=elsewhere.cookie(), host="console.example") == 200


def test_health_needs_no_token(asked: Asked) -> None:
    """Whoever watches the container asks it."""
    assert asked.ask("/healthz", host="10.0.0.1") == 200
    assert asked.body == "ok"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("", False),
        ("a.b", False),
    ],
)
def test_loopback_by_name_or_address(name: str, expected: bool) -> None:
    """What can only mean this machine."""
    assert is_loopback(name) is expected
