"""Where the servers of one home keep what."""

from __future__ import annotations

from pathlib import Path


class Places:
    """Paths below a home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.run = home / "run"
        self.lock = self.run / "servers.lock"
        self.socket = self.run / "servers.sock"
        self.record = self.run / "servers.json"
        self.keys = home / "keys.json"
        self.daemon_log = self.log("servers")

    def data(self, service: str) -> Path:
        """The data folder of a service."""
        return self.home / service

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.home / "logs" / f"{name}.log"
