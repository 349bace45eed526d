"""Settings: read once, from the environment or a file, and never shown where they are secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.contracts.errors import UserError
from infra.settings import ROOT, Settings, markdown_table


def test_the_readme_has_the_table_of_settings() -> None:
    """The README's table is what `python -m infra.settings` prints."""
    assert markdown_table() in (ROOT / "README.md").read_text()


def test_a_setting_may_be_in_a_file(tmp_path: Path) -> None:
    """NAME_FILE names a file with the value; the variable itself goes before it."""
    secret = tmp_path / "secret"
    secret.write_text("from the file\n")
    settings = Settings.load({"AWS_SECRET_ACCESS_KEY_FILE": str(secret)})
    assert settings.secret_key == "from the file"
    both = {"AWS_SECRET_ACCESS_KEY_FILE": str(secret), "AWS_SECRET_ACCESS_KEY": "from the variable"}
    assert Settings.load(both).secret_key == "from the variable"


def test_a_secret_hides_itself() -> None:
    """It is in no repr, so in no log and no traceback's values."""
    assert "hush" not in repr(Settings.load({"AWS_SECRET_ACCESS_KEY": "hush"}))


@pytest.mark.parametrize(
    ("environ", "name"),
    [({"KAFKA_BROKERS": "three"}, "KAFKA_BROKERS"), ({"AWS_REGION_FILE": "/nowhere"}, "AWS_REGION_FILE")],
)
def test_a_wrong_value_is_one_line(environ: dict[str, str], name: str) -> None:
    """The line names the variable."""
    with pytest.raises(UserError, match=name):
        Settings.load(environ)


def test_a_child_gets_the_same_settings() -> None:
    """What `environment` hands on is read back equal."""
    settings = Settings.load({"MILLSTREAM_MEMORY_MB": "4000"}).with_s3("http://127.0.0.1:1", "a", "b")
    assert Settings.load(settings.environment()) == settings
