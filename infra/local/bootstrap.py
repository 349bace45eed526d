"""Set-up of a checkout: `.venv` from requirements.lock and the jars from jars.lock.

Run by the Makefile with the system's Python, so it imports the standard library only. Both parts
are finished by a stamp file that make compares with the lock, which is why a second call is free.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STATE = ROOT / ".millstream"
LOG = STATE / "logs" / "setup.log"
PACKAGES_LOCK = ROOT / "requirements.lock"
JARS_LOCK = ROOT / "infra" / "resources" / "jars.lock"
# Needed to build pyspark's source archive, so installed before the rest (names in requirements.lock).
BUILD_PACKAGES = ("packaging", "setuptools", "wheel")
OLDEST_JAVA = 17


class SetupError(Exception):
    """What is missing, and what to do about it, in one line."""


def main() -> int:
    """Set up what the arguments name: `packages`, `jars`. Exit code 2 when something is missing."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with (STATE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: waiting for another one in this checkout", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            for part in sys.argv[1:]:
                {"packages": install_packages, "jars": install_jars}[part]()
        except SetupError as error:
            print(f"setup: {error}", file=sys.stderr)
            return 2
    return 0


def check_java() -> None:
    """Spark and Kafka need a Java runtime; its version is the first number of `java -version`."""
    java = shutil.which(java_command())
    if java is None and "JAVA_HOME" in os.environ:
        raise SetupError(f"JAVA_HOME={os.environ['JAVA_HOME']} has no bin/java; correct or unset it")
    if java is None:
        raise SetupError(
            f"no Java found; install Java {OLDEST_JAVA} or later (Debian: apt-get install "
            "openjdk-17-jre-headless) or set JAVA_HOME"
        )
    text = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', text)
    if version is None or int(version[1]) < OLDEST_JAVA:
        found = version[1] if version else "unknown"
        raise SetupError(
            f"Java {OLDEST_JAVA} or later is needed and {java} is version {found}; set JAVA_HOME"
        )


def java_command() -> str:
    """The java of JAVA_HOME where that is set, otherwise the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def install_packages() -> None:
    """Make `.venv` hold exactly the locked packages, and stamp it."""
    stamp = VENV / "packages.ready"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = VENV / "bin" / f"python{version}"
    stamp.unlink(missing_ok=True)
    lock = PACKAGES_LOCK.read_text()
    try:
        venv.EnvBuilder(with_pip=True, clear=not interpreter.exists()).create(VENV)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"Python {version} could not make .venv ({error}); on Debian: apt-get install python3-venv"
        ) from error
    first = STATE / "build-packages.lock"
    first.write_text("".join(locked_packages(lock, BUILD_PACKAGES)))
    total = len(re.findall(r"^[a-z0-9].*==", lock, re.MULTILINE))
    progress = Progress("Python packages", total)
    for requirements in (first, PACKAGES_LOCK):
        pip(requirements, progress)
    progress.close()
    stamp.touch()


def locked_packages(lock: str, names: tuple[str, ...]) -> Iterator[str]:
    """The lock's entries (a line and its continued hash lines) for these packages."""
    wanted = False
    for line in lock.splitlines(keepends=True):
        entry = re.match(r"([a-z0-9][a-z0-9-]*)==", line)
        if entry:
            wanted = entry[1] in names
        if wanted and not line.lstrip().startswith("#"):
            yield line


def pip(requirements: Path, progress: Progress) -> None:
    """Install one locked requirements file; every download is checked against its recorded hash."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--require-hashes", "--no-deps"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "-r", str(requirements)]
    steps = {"Collecting": 1, "Requirement": 0, "Building": 0, "Installing": 0}
    code = run_logged(command, lambda line: progress.saw(line, steps))
    if code:
        raise SetupError(f"the Python packages could not be installed: {reason()} (log: {LOG})")


def install_jars() -> None:
    """Make `.millstream/jars/<set>/` hold exactly the locked jars, and stamp it."""
    check_java()
    target = STATE / "jars"
    stamp = target / "ready"
    stamp.unlink(missing_ok=True)
    locked = read_jars_lock(JARS_LOCK.read_text())
    progress = Progress("Java archives", sum(len(jars) for jars in locked.values()))
    for name, jars in locked.items():
        fetch_jar_set(target / name, jars, progress)
    progress.close()
    stamp.touch()


def read_jars_lock(text: str) -> dict[str, dict[str, str]]:
    """Sets of jars: name -> {organisation:artifact:revision -> SHA-256}, from lines of those three."""
    sets: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, coordinate, digest = line.split()
            sets.setdefault(name, {})[coordinate] = digest
    return sets


def fetch_jar_set(folder: Path, jars: dict[str, str], progress: Progress) -> None:
    """Resolve what is missing by Ivy, check every jar's SHA-256, remove what is not in the lock."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {jar_file(coordinate): digest for coordinate, digest in jars.items()}
    for path in folder.iterdir():
        if path.name not in files or sha256(path) != files[path.name]:
            path.unlink()
    missing = [coordinate for coordinate in jars if not (folder / jar_file(coordinate)).exists()]
    if missing:
        ivy_retrieve(folder, ivy_module(missing, transitive=False), progress)
    for name, digest in files.items():
        path = folder / name
        if not path.exists():
            raise SetupError(f"{name} could not be fetched: {reason()} (log: {LOG})")
        if sha256(path) != digest:
            path.unlink()
            raise SetupError(f"{name} is not the file that was recorded in {JARS_LOCK.name}; try again")


def jar_file(coordinate: str) -> str:
    """The file name of organisation:artifact:revision."""
    _, artifact, revision = coordinate.split(":")
    return f"{artifact}-{revision}.jar"


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ivy_module(coordinates: list[str], *, transitive: bool, exclude: tuple[str, ...] = ()) -> str:
    """An ivy.xml that depends on these coordinates (organisation:artifact:revision)."""
    rows = []
    for coordinate in coordinates:
        org, name, rev = coordinate.split(":")
        rows.append(
            f"<dependency org={quoteattr(org)} name={quoteattr(name)} rev={quoteattr(rev)} "
            f'transitive="{str(transitive).lower()}" conf="default->master{",runtime" * transitive}"/>'
        )
    for pattern in exclude:
        org, name = pattern.split(":")
        rows.append(f"<exclude org={quoteattr(org)} module={quoteattr(name)}/>")
    return (
        '<ivy-module version="2.0"><info organisation="millstream" module="jars"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{''.join(rows)}</dependencies></ivy-module>"
    )


def ivy_retrieve(folder: Path, module: str, progress: Progress) -> None:
    """Let the Ivy inside the pyspark wheel fetch a module's jars into a folder."""
    pyspark = next((VENV / "lib").glob("python3*/site-packages/pyspark"))
    description = STATE / "ivy.xml"
    description.write_text(module)
    command = [java_command(), "-cp", f"{pyspark}/jars/*", "org.apache.ivy.Main", "-ivy", str(description)]
    command += ["-cache", str(STATE / "ivy"), "-types", "jar", "bundle", "-confs", "default", "-retrieve"]
    command += [f"{folder}/[artifact]-[revision].[ext]"]
    if run_logged(command, lambda line: progress.saw(line, {"[SUCCESSFUL": 1, "downloading": 0})):
        raise SetupError(f"the Java archives could not be fetched: {reason()} (log: {LOG})")


def run_logged(command: list[str], each_line: Callable[[str], None]) -> int:
    """Run a command with its output in the set-up log, showing every line to `each_line`."""
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            log.write(line)
            each_line(line)
        return child.wait()


def reason() -> str:
    """The likeliest cause in the set-up log, in a few words."""
    tail = LOG.read_text()[-20_000:]
    offline = ("NewConnectionError", "Temporary failure in name", "UnknownHostException", "ConnectTimeout")
    if any(word in tail for word in (*offline, "Connection refused", "Network is unreachable")):
        return "no network, or the package registry can't be reached; connect and run the command again"
    errors = [line for line in tail.splitlines() if line.startswith(("ERROR", "[error"))]
    return errors[-1] if errors else "see the log"


class Progress:
    """One line that counts, redrawn on a terminal and printed every few seconds elsewhere."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.count = label, total, 0
        self.started = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.show("")

    def saw(self, line: str, steps: dict[str, int]) -> None:
        """Count a line of a tool's output that begins a step (word -> how much it counts)."""
        word = next((word for word in steps if line.strip().startswith(word)), None)
        if word is None:
            return
        self.count = min(self.count + steps[word], self.total)
        if self.terminal or time.monotonic() - self.shown > 5:
            self.show(re.sub(r"https?://\S+", "", line.strip())[:60])

    def show(self, detail: str) -> None:
        """Draw the line."""
        self.shown = time.monotonic()
        text = f"setup: {self.label} {self.count}/{self.total} {detail}"
        print(f"\r{text:<100}" if self.terminal else text.rstrip(), end="" if self.terminal else "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Say that this part is ready, and how long it took."""
        text = f"setup: {self.label} ready in {time.monotonic() - self.started:.0f} s"
        print(f"\r{text:<100}" if self.terminal else text)


if __name__ == "__main__":
    sys.exit(main())
