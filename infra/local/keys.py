"""The keys of the embedded S3 server: generated once, kept in a file that only its owner reads.

The file has SeaweedFS's own form, so that the server takes it as it is and the keys pass through
no command line, environment or log.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path

ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


def ensure_keys(path: Path) -> None:
    """Create the keys file, mode 0600, unless it is there; it appears whole or not at all."""
    if path.exists():
        return
    credentials = {"accessKey": f"MS{secrets.token_hex(9).upper()}", "secretKey": secrets.token_urlsafe(30)}
    identity = {"name": "millstream", "credentials": [credentials], "actions": ACTIONS}
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # O_EXCL, mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump({"identities": [identity]}, file)
        os.link(draft, path)
    finally:
        Path(draft).unlink()


def read_keys(path: Path) -> tuple[str, str]:
    """The access key and the secret key."""
    credentials = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return credentials["accessKey"], credentials["secretKey"]
