"""Reads spark-submit's arguments as EMR's steps give them, and fits them to a cluster here.

What only says where or how large to run (YARN, deploy mode, executor sizes) is left out with a note,
so that an EMR request runs unchanged; what would change a job's meaning here is refused by name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.contracts.errors import UserError
from infra.contracts.resources import did_you_mean

KEPT = frozenset(
    {
        "--name",
        "--jars",
        "--packages",
        "--exclude-packages",
        "--repositories",
        "--py-files",
        "--files",
        "--archives",
        "--conf",
        "--driver-memory",
        "--driver-java-options",
        "--driver-library-path",
        "--total-executor-cores",
    }
)
FLAGS = frozenset({"--verbose", "--load-spark-defaults"})
ALIASES = {"-c": "--conf", "-v": "--verbose", "-h": "--help"}
_SIZED = "left out, executors are sized by the instance types"
LEFT_OUT = {
    "--queue": "left out, there is no YARN queue here",
    "--driver-cores": "left out, it holds in cluster mode only",
    "--num-executors": "left out, every CORE and TASK node runs one executor",
    "--executor-cores": _SIZED,
    "--executor-memory": _SIZED,
}
_CLASS_PATH = "it would hide the S3 client; use --jars, or spark.jars"
_NO_KERBEROS = "there is no Kerberos here"
REFUSED = {
    "--class": "a step runs a PySpark script (.py)",
    "--properties-file": "use --conf, or Configurations with Classification spark-defaults",
    "--driver-class-path": _CLASS_PATH,
    "--proxy-user": "a step runs as the user that started the cluster",
    "--principal": _NO_KERBEROS,
    "--keytab": _NO_KERBEROS,
    "--remote": "a step runs on its own cluster",
    "--supervise": "use ActionOnFailure",
    "--kill": "use cancel-steps",
    "--status": "use list-steps",
    "--help": "a step runs a PySpark script (.py)",
    "--version": "a step runs a PySpark script (.py)",
}
# Spark properties that say the same as one of the options.
SAME_AS = {
    "spark.master": "--master",
    "spark.submit.deployMode": "--deploy-mode",
    "spark.yarn.queue": "--queue",
    "spark.driver.cores": "--driver-cores",
    "spark.executor.instances": "--num-executors",
    "spark.executor.cores": "--executor-cores",
    "spark.executor.memory": "--executor-memory",
    "spark.driver.extraClassPath": "--driver-class-path",
    "spark.executor.extraClassPath": "--driver-class-path",
    "spark.remote": "--remote",
}
KNOWN = {*KEPT, *FLAGS, *LEFT_OUT, *REFUSED, "--master", "--deploy-mode"}


@dataclass
class _Parsed:
    options: list[str] = field(default_factory=list)
    script: str = ""
    arguments: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def spark_arguments(args: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Split what follows `spark-submit` into its options, the script and the script's arguments.

    The options are those to run with here, a value always apart from its name. Raises UserError for
    an option or a script that is not supported.
    """
    parsed = _parse(args)
    return parsed.options, parsed.script, parsed.arguments


def argument_notes(args: Sequence[str]) -> list[str]:
    """What `spark_arguments` left out, one line each."""
    return _parse(args).notes


def left_out(name: str, value: str, shown: str) -> str | None:
    """Whether an option is left out here: None if it is kept, otherwise the note that says why.

    `shown` is how it was given. Raises UserError if it is refused.
    """
    if name == "--master":
        if value != "yarn":
            raise UserError(f"{shown} is not supported; a step runs on its own cluster: leave it out")
        return f"{shown}: left out, Spark's own master takes YARN's place"
    if name == "--deploy-mode":
        if value not in ("client", "cluster"):
            raise UserError(f"{shown} is not supported; use client, or leave it out")
        return f"{shown}: the driver runs on the MASTER node, as in client mode" if value == "cluster" else ""
    if name in REFUSED:
        raise UserError(f"{shown} is not supported; {REFUSED[name]}")
    return f"{shown}: {LEFT_OUT[name]}" if name in LEFT_OUT else None


def left_out_property(key: str, value: str) -> str | None:
    """As `left_out`, for a Spark property."""
    return left_out(SAME_AS[key], value, f"{key}={value}") if key in SAME_AS else None


def _parse(args: Sequence[str]) -> _Parsed:
    if not all(isinstance(item, str) for item in args):
        raise UserError("every argument of spark-submit must be a string")
    parsed, rest = _Parsed(), deque(args)
    while rest and rest[0].startswith("-"):
        _take_option(parsed, rest)
    if not rest:
        raise UserError("spark-submit needs a script: a path or an s3:// address that ends in .py")
    parsed.script = _checked_script(rest.popleft())
    parsed.arguments = list(rest)
    return parsed


def _take_option(parsed: _Parsed, rest: deque[str]) -> None:
    """Move one option from `rest` to the options or the notes."""
    given, has_value, value = rest.popleft().partition("=")
    name = ALIASES.get(given, given)
    if name not in KNOWN:
        raise UserError(f"spark-submit has no option {given!r}{did_you_mean(given, KNOWN)}")
    if name in FLAGS:
        parsed.options.append(name)
        return
    if name in REFUSED:
        left_out(name, "", given)
    if not has_value:
        if not rest:
            raise UserError(f"spark-submit's option {given} needs a value")
        value = rest.popleft()
    if "\n" in value:
        raise UserError(f"spark-submit's option {name} has a value of more than one line")
    note = _note(name, value)
    if note is None:
        parsed.options += [name, value]
    elif note:
        parsed.notes.append(note)


def _note(name: str, value: str) -> str | None:
    if name != "--conf":
        return left_out(name, value, f"{name} {value}")
    key, equals, setting = value.partition("=")
    if not equals:
        raise UserError(f"--conf needs PROPERTY=VALUE, not {value!r}")
    return left_out_property(key.strip(), setting.strip())


def _checked_script(script: str) -> str:
    if not script.endswith(".py"):
        raise UserError(
            f"{script!r} is not supported; a step runs a PySpark script (.py), from a path or s3://"
        )
    scheme, separator, _ = script.partition("://")
    if separator and scheme not in ("s3", "s3a"):
        raise UserError(f"{script!r} is not supported; give the script as a path or an s3:// address")
    return script
