"""The keys of the embedded S3 server: generated once, kept in a file that only its owner reads.

The file has SeaweedFS's own form, so that the server takes it as it is and the keys pass through
no command line, environment or log.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from infra.secret_file import make_once

ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


def ensure_keys(path: Path) -> None:
    """Create the keys file, mode 0600, unless it is there; it appears whole or not at all."""
    make_once(path, lambda: json.dumps({"identities": [_identity()]}))


def _identity() -> dict[str, object]:
    credentials = {"accessKey": f"MS{secrets.token_hex(9).upper()}", "secretKey": secrets.token_urlsafe(30)}
    return {"name": "millstream", "credentials": [credentials], "actions": ACTIONS}


def read_keys(path: Path) -> tuple[str, str]:
    """The access key and the secret key."""
    credentials = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return credentials["accessKey"], credentials["secretKey"]
