"""`python -m infra.console`: serves the console until it is told to stop."""

from __future__ import annotations

import logging
import socket
import sys

import click
import uvicorn
from fastapi import FastAPI
from nicegui import ui

from infra.console.access import Guard, is_loopback
from infra.console.board import Board
from infra.console.files import routes
from infra.console.pages import add_pages
from infra.console.token_file import ensure_token, token_path
from infra.contracts.errors import UserError
from infra.process import Terminated, run_command
from infra.settings import Settings

END_WITHIN_S = 1
RECONNECT_S = 10.0


@click.command()
def main() -> int:
    """Serve the console: a live page over everything that this home runs."""
    settings = Settings.load()
    listening = _listen(settings)
    token = settings.console_token or ensure_token(token_path(settings.home))
    board = Board(settings)
    _quieten()
    application = _application(board, token, settings, listening.getsockname()[1])
    server = _Server(_config(application), f"console: {_address(settings, listening, token)}")
    board.start()
    try:
        server.run(sockets=[listening])
    except Terminated:
        return 0
    finally:
        board.stop()
        listening.close()
    return 0


class _Server(uvicorn.Server):
    """A server that says where it is as soon as it answers, and can be told to stop."""

    def __init__(self, config: uvicorn.Config, line: str) -> None:
        super().__init__(config)
        self._line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        await super().startup(sockets)
        click.echo(self._line)


def _listen(settings: Settings) -> socket.socket:
    """The socket that is served. Raises UserError when it can't be had."""
    family = socket.AF_INET6 if ":" in settings.listen else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.listen, settings.console_port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        why = error.strerror if isinstance(error, OSError) else "no such port"
        raise UserError(
            f"the console can't listen on {settings.listen}:{settings.console_port} ({why}): end what uses "
            "it, or set MILLSTREAM_CONSOLE_PORT to another port"
        ) from error
    return listening


def _application(board: Board, token: str, settings: Settings, port: int) -> Guard:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(routes(board))
    add_pages(board)
    ui.run_with(
        app,
        title="Millstream",
        dark=None,
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )
    return Guard(app, token, loopback=is_loopback(settings.listen), cookie=f"millstream-console-{port}")


def _config(app: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="wsproto",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=END_WITHIN_S,
    )


def _address(settings: Settings, listening: socket.socket, token: str) -> str:
    """Where the console is, with the token for somebody at a terminal.

    Elsewhere the line may end up in a log, so it says where the token lies; a given one is known already.
    """
    host = f"[{settings.listen}]" if ":" in settings.listen else settings.listen
    address = f"http://{host}:{listening.getsockname()[1]}/"
    if settings.console_token:
        return address
    if sys.stdout.isatty():
        return f"{address}?token={token}"
    return f"{address} (its token is in {token_path(settings.home)})"


def _quieten() -> None:
    """What can't be reached stands on the page; the clients' own words on it would only fill the log."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    for name in ("httpx", "asyncio", "socketio", "engineio"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    run_command(main)
