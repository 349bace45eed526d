"""Every setting: its environment variable, default and meaning. The only reader of the environment.

`python -m infra.settings` prints them as the README's table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from infra.contracts.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def _setting(name: str, default: str, meaning: str, *, secret: bool = False) -> Any:
    """A field read from environment variable `name`, or from the file that `name`_FILE names."""
    return field(metadata={"name": name, "default": default, "meaning": meaning}, repr=not secret)


@dataclass(frozen=True)
class Settings:
    """The settings of one process; `load` reads them, `environment` hands them to a child."""

    home: Path = _setting(
        "MILLSTREAM_HOME", str(ROOT / ".millstream"), "where data, journals, logs and reports lie"
    )
    shown_home: str = _setting(
        "MILLSTREAM_SHOWN_HOME", "", "that folder's path for the user, where it is another than for us"
    )
    jars: Path = _setting(
        "MILLSTREAM_JARS", str(ROOT / ".millstream" / "jars"), "the jars that `make setup` fetched"
    )
    memory_mb: int = _setting(
        "MILLSTREAM_MEMORY_MB",
        "0",
        "memory that the nodes of clusters may use together; 0: what the machine has free, less a reserve",
    )
    nodes: str = _setting(
        "MILLSTREAM_NODES",
        "",
        "hosts where node agents run, with commas, the master's first; empty: nodes are processes here",
    )
    standing: int = _setting(
        "MILLSTREAM_STANDING",
        "0",
        "1 where consumers and a cluster stand already, as in Compose: stories use them and start none",
    )
    bucket: str = _setting("MILLSTREAM_BUCKET", "lake", "the S3 bucket of all data and logs")
    s3_endpoint: str = _setting(
        "AWS_ENDPOINT_URL_S3", "", "an S3 server to use; empty: the embedded one, started when needed"
    )
    access_key: str = _setting(
        "AWS_ACCESS_KEY_ID", "", "access key for that server; the embedded one generates its own"
    )
    secret_key: str = _setting("AWS_SECRET_ACCESS_KEY", "", "its secret", secret=True)
    region: str = _setting("AWS_REGION", "us-east-1", "the region to sign requests for")
    kafka_servers: str = _setting(
        "KAFKA_BOOTSTRAP_SERVERS", "", "a Kafka cluster to use; empty: the embedded one"
    )
    kafka_brokers: int = _setting("KAFKA_BROKERS", "1", "brokers of the embedded Kafka: 1 or 3")
    compose_project: str = _setting(
        "COMPOSE_PROJECT_NAME", "", "the Compose stack to use when several of this checkout are up"
    )
    webhook_url: str = _setting(
        "MILLSTREAM_WEBHOOK_URL", "", "where alerts are posted to (http or https)", secret=True
    )
    webhook_secret: str = _setting(
        "MILLSTREAM_WEBHOOK_SECRET", "", "what posted alerts are signed with", secret=True
    )

    warehouse: str = _setting(
        "MILLSTREAM_WAREHOUSE",
        "",
        "a PostgreSQL warehouse, postgresql://user@host:port/database; empty: a DuckDB file",
    )
    warehouse_password: str = _setting(
        "MILLSTREAM_WAREHOUSE_PASSWORD", "", "the password of that user", secret=True
    )
    listen: str = _setting(
        "MILLSTREAM_LISTEN", "127.0.0.1", "the address that metrics and the console listen on"
    )
    metrics_port: int = _setting(
        "MILLSTREAM_METRICS_PORT", "0", "the port that a process serves its metrics on; 0: a free one"
    )
    console_port: int = _setting("MILLSTREAM_CONSOLE_PORT", "8600", "the port of the console's page")
    console_token: str = _setting(
        "MILLSTREAM_CONSOLE_TOKEN", "", "what opens the console; empty: generated at first start", secret=True
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read every setting. Raises UserError for a value of the wrong kind or an unreadable file."""
        return cls(**{item.name: _read(item.metadata, item.type, environ) for item in fields(cls)})

    def environment(self) -> dict[str, str]:
        """This process's environment with these settings in it, for a child process."""
        own = {item.metadata["name"]: str(getattr(self, item.name)) for item in fields(self)}
        python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return {**os.environ, **own, "PYTHONPATH": python_path, "TZ": "UTC"}

    def shown(self, path: Path) -> Path:
        """A path in the home as the user has it."""
        if self.shown_home and path.is_relative_to(self.home):
            return Path(self.shown_home) / path.relative_to(self.home)
        return path

    def with_s3(self, endpoint: str, access_key: str, secret_key: str) -> Settings:
        """The same settings with another S3 server."""
        return replace(self, s3_endpoint=endpoint, access_key=access_key, secret_key=secret_key)

    def with_kafka(self, servers: str) -> Settings:
        """The same settings with another Kafka cluster."""
        return replace(self, kafka_servers=servers)


def _read(metadata: Mapping[str, str], kind: Any, environ: Mapping[str, str]) -> Any:
    name = metadata["name"]
    text = environ.get(name, "")
    path = environ.get(f"{name}_FILE", "")
    if path and not text:
        try:
            text = Path(path).read_text().strip()
        except OSError as error:
            raise UserError(f"{name}_FILE={path} can't be read: {error.strerror}") from error
    text = text or metadata["default"]
    if kind == "int":
        if not text.isdecimal():
            raise UserError(f"{name} must be a whole number, not {text!r}")
        return int(text)
    return Path(text).absolute() if kind == "Path" else text


def markdown_table() -> str:
    """All settings as a Markdown table (name, default, meaning), as the README shows them."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for item in fields(Settings):
        data = item.metadata
        default = data["default"].removeprefix(f"{ROOT}/")
        rows.append(f"| `{data['name']}` | {f'`{default}`' if default else ''} | {data['meaning']} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(markdown_table(), end="")
