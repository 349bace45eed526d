"""Finds the files of a sales input and reads them as columns by position.

A user's column names may hold spaces, dots, backticks or differ in case only; nothing after this
module refers to a column by such a name.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as fn
from pyspark.sql.types import DataType, StringType, StructField, StructType

from infra.contracts.errors import UserError
from infra.files import Store
from infra.objects import StoredObject
from spark_jobs.months import MONTH, month_of

FORMATS = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet"}
MONTH_FOLDER = re.compile(rf"month=({MONTH.pattern})/[^/]+")
# RFC 4180: a quote is doubled inside quotes and a quoted field may span lines.
CSV: dict[str, bool | str] = {
    "header": True,
    "multiLine": True,
    "quote": '"',
    "escape": '"',
    "enforceSchema": False,
}
MALFORMED = "malformed row"
HIDDEN = re.compile(r"(^|/)[_.]")

SETTINGS = {
    "spark.sql.caseSensitive": "true",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # One listing on the driver is faster than a job of one task per folder.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "2000",
    # pandas writes nanoseconds, which Spark refuses to read as anything but numbers.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
}


@dataclass(frozen=True)
class InputFiles:
    """The data files of an input, all of one format.

    `months` has each file's month when all lie in folders month=YYYY-MM, otherwise None; `sizes`
    are in bytes; `ignored` are files of other kinds.
    """

    root: str
    format: str
    urls: tuple[str, ...]
    sizes: tuple[int, ...]
    months: tuple[int, ...] | None
    ignored: tuple[str, ...] = ()

    def only(self, months: Collection[int]) -> InputFiles:
        """The files in the folders of these months; needs `months`, and one of them to be there."""
        assert self.months is not None
        files = zip(self.urls, self.sizes, self.months, strict=True)
        urls, sizes, of_months = zip(*(file for file in files if file[2] in months), strict=True)
        return replace(self, urls=urls, sizes=sizes, months=of_months)

    def fingerprints(self) -> dict[int, str] | None:
        """For each month's folder a hash of its files' names and sizes; None without such folders."""
        if self.months is None:
            return None
        hashes: dict[int, Any] = {}
        for url, size, month in zip(self.urls, self.sizes, self.months, strict=True):
            hashes.setdefault(month, sha256()).update(f"{url} {size}\n".encode())
        return {month: found.hexdigest()[:16] for month, found in hashes.items()}


@dataclass(frozen=True)
class RawSales:
    """An input as it is: `names` are the user's columns, c0, c1, ... in `frame`, which of a CSV also
    has MALFORMED.

    `malformed` is true for a row with a wrong number of fields; `folder` is its folder's month as
    text (null where the input has no month folders).
    """

    frame: DataFrame
    names: tuple[str, ...]
    malformed: Column
    folder: Column

    def column(self, position: int) -> Column:
        """The column that is `position`th of `names`."""
        return fn.col(f"c{position}")

    def type(self, position: int) -> DataType:
        """Its type."""
        return self.frame.schema[f"c{position}"].dataType


def find_input(store: Store, root: str) -> InputFiles:
    """The data files at or below `root`. Raises UserError when there are none, or of two formats."""
    found: dict[str, dict[str, int]] = {}
    for item in _visible(store, root):
        kind = next((FORMATS[end] for end in FORMATS if item.url.lower().endswith(end)), "")
        found.setdefault(kind, {})[item.url] = item.size
    ignored = tuple(found.pop("", {}))
    if not found:
        raise UserError(f"there is no .parquet, .csv or .csv.gz file at {root}")
    if len(found) > 1:
        raise UserError(f"{root} has both CSV and Parquet files; give INPUT one of the two")
    ((kind, sizes),) = found.items()
    months = _folder_months(root, list(sizes))
    return InputFiles(root, kind, tuple(sizes), tuple(sizes.values()), months, ignored)


def read_input(spark: SparkSession, files: InputFiles) -> RawSales:
    """The input as a lazy frame. Reads no more than one file's schema or header."""
    frame = (
        _read_csv(spark, files) if files.format == "csv" else _reader(spark, files).parquet(*_paths(files))
    )
    names = tuple(name for name in frame.columns if name != MALFORMED)
    places = iter(range(len(names)))
    renamed = frame.toDF(*(MALFORMED if name == MALFORMED else f"c{next(places)}" for name in frame.columns))
    return RawSales(
        renamed,
        names,
        fn.col(MALFORMED).isNotNull() if files.format == "csv" else fn.lit(False),
        fn.col(f"c{names.index('month')}") if files.months else fn.lit(None).cast("string"),
    )


@contextmanager
def file_errors() -> Iterator[None]:
    """Around what reads an input: files that are no Parquet, or whose headers differ, are the user's."""
    try:
        yield
    except Py4JJavaError as error:
        text = str(error)
        if broken := re.search(r"CANNOT_READ_FILE_FOOTER\] .* reading file (\S.*?)\. Could not", text):
            raise UserError(f"{broken[1]} can't be read as Parquet; mend it or take it away") from error
        if "CSV header does not conform" in text or "Number of column in CSV header" in text:
            file = re.search(r"CSV file: (\S.*)", text)
            raise UserError(
                f"{file[1] if file else 'a CSV file'} has another header than the first file of the input; "
                "give all files the same columns in the same order"
            ) from error
        raise


def _reader(spark: SparkSession, files: InputFiles) -> DataFrameReader:
    whole = files.urls == (files.root,)
    return spark.read if whole else spark.read.option("basePath", files.root)


def _paths(files: InputFiles) -> list[str]:
    """The files as Spark takes them: it reads a path as a pattern."""
    return [re.sub(r"([\[\]{}*?\\])", r"\\\1", url) for url in files.urls]


def _read_csv(spark: SparkSession, files: InputFiles) -> DataFrame:
    """Every column as text, and MALFORMED: the whole row where it has too few or too many fields."""
    paths = _paths(files)
    header = _header(spark, paths[0])
    if not header:
        raise UserError(f"{files.urls[0]} is empty; a CSV file begins with a header")
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{files.urls[0]} has more than one column {repeated!r}; rename all but one")
    schema = StructType([StructField(name, StringType()) for name in [*header, MALFORMED]])
    reader = _reader(spark, files).schema(schema).options(**CSV, columnNameOfCorruptRecord=MALFORMED)
    return reader.csv(paths)


def _header(spark: SparkSession, path: str) -> list[str]:
    """The first row of a CSV file: all of it is MALFORMED for a reader that expects one field."""
    schema = f"only string, `{MALFORMED}` string"
    reader = spark.read.schema(schema).options(
        **{**CSV, "header": False}, columnNameOfCorruptRecord=MALFORMED
    )
    first = reader.csv(path).first()
    if first is None:
        return []
    return next(csv.reader(io.StringIO(first[1], newline=""))) if first[1] else [first[0] or ""]


def _visible(store: Store, root: str) -> list[StoredObject]:
    """What is at or below `root`, without files and folders that begin with _ or a dot."""
    folder = f"{root.rstrip('/')}/"
    items = [item for item in store.list(root) if item.size]
    exact = [item for item in items if item.url == root]
    within = (item for item in items if item.url.startswith(folder))
    return exact or [item for item in within if not HIDDEN.search(item.url.removeprefix(folder))]


def _folder_months(root: str, urls: Sequence[str]) -> tuple[int, ...] | None:
    folder = f"{root.rstrip('/')}/"
    matches = [MONTH_FOLDER.fullmatch(url.removeprefix(folder)) for url in urls]
    months = [month_of(match[1]) for match in matches if match]
    return tuple(months) if len(months) == len(urls) else None
