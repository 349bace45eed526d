"""`make lock`: resolve the jars that Spark and Kafka need, and record them with their SHA-256.

Only this file says which jars are wanted; `jars.lock` is what came of it, and is what a checkout
installs. The Python side of the same is `uv pip compile` in the Makefile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from xml.etree import ElementTree

from infra.local import bootstrap

KAFKA = "4.3.1"
SPARK = "4.1.1"
HADOOP = "3.4.2"  # must equal pyspark's own
AWS_SDK = "2.29.52"  # the single modules instead of hadoop-aws's 600 MB `bundle`
LOG4J = "2.25.3"

WANTED = {
    "spark": [
        f"org.apache.hadoop:hadoop-aws:{HADOOP}",
        *(
            f"software.amazon.awssdk:{module}:{AWS_SDK}"
            for module in ("s3", "s3-transfer-manager", "sts", "apache-client")
        ),
    ],
    # Its own jar alone: the magic committer's binding to Spark.
    "spark-alone": [f"org.apache.spark:spark-hadoop-cloud_2.13:{SPARK}"],
    "kafka": [
        f"org.apache.kafka:kafka_2.13:{KAFKA}",
        f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}",
    ],
}
EXCLUDED = ("software.amazon.awssdk:bundle",)


def main() -> None:
    """Write jars.lock."""
    jars = next((bootstrap.VENV / "lib").glob("python3*/site-packages/pyspark/jars"))
    provided = {path.name for path in jars.iterdir()}
    rows = []
    for name, coordinates in WANTED.items():
        resolved = resolve(coordinates, transitive=name != "spark-alone")
        for coordinate, digest in sorted(resolved.items()):
            if not name.startswith("spark") or not is_provided(coordinate, provided):
                rows.append(f"{name.removesuffix('-alone')} {coordinate} {digest}\n")
    heading = "# set, organisation:artifact:revision, SHA-256; written by `make lock`\n"
    bootstrap.JARS_LOCK.write_text(heading + "".join(rows))


def is_provided(coordinate: str, provided: set[str]) -> bool:
    """Whether pyspark brings this artifact, at whatever revision."""
    _, artifact, _ = coordinate.split(":")
    return any(name.startswith(f"{artifact}-") and name[len(artifact) + 1].isdigit() for name in provided)


def resolve(coordinates: list[str], *, transitive: bool) -> dict[str, str]:
    """Everything these coordinates need: organisation:artifact:revision -> SHA-256."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        progress = bootstrap.Progress("resolving", 99)
        module = bootstrap.ivy_module(coordinates, transitive=transitive, exclude=EXCLUDED)
        bootstrap.ivy_retrieve(folder, module, progress)
        found = {}
        cache = bootstrap.STATE / "ivy"
        for jar in folder.glob("*.jar"):
            found[coordinate_of(jar.name, cache)] = bootstrap.sha256(jar)
        return found


def coordinate_of(name: str, cache: Path) -> str:
    """The coordinate of a retrieved jar, from the description that Ivy keeps of it."""
    for description in cache.glob("*/*/ivy-*.xml"):
        info = ElementTree.parse(description).getroot().find("info")  # noqa: S314 (Ivy wrote it)
        assert info is not None
        org, module, revision = info.attrib["organisation"], info.attrib["module"], info.attrib["revision"]
        if f"{module}-{revision}.jar" == name:
            return f"{org}:{module}:{revision}"
    raise LookupError(f"{name} is not described in {cache}")


if __name__ == "__main__":
    main()
