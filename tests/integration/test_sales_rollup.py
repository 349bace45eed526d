"""The rollup on real Spark, against the same aggregation by DuckDB over decimals, to the cent."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as fn
from pyspark.sql.types import StringType

from infra.contracts.errors import UserError
from infra.files import LocalFiles, address, below
from infra.parquet import read_parquet
from spark_jobs.dates import FORMATS, month_number, time_of
from spark_jobs.months import month_of
from spark_jobs.reading import Request
from spark_jobs.rollup import finished_table
from spark_jobs.sales_input import find_input
from spark_jobs.sales_rollup import SETTINGS, roll_up
from spark_jobs.session import spark_session

# pyspark leaves the sockets that results came through to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]
STORE = LocalFiles()
NAMES = ['Toys "R" us, Ltd', "two\nlines", "plain", " spaced "]
COLUMNS = {
    "sold_at": "Order Date",
    "category": "Cat.`egory",
    "region": "Region",
    "quantity": "Qty",
    "unit_price": "Price, each",
}
# The same sums as the job's, from texts, by another engine: SQL over decimals.
EXPECTED = """
SELECT year(day + INTERVAL 1 MONTH)::INT season_year,
       ['winter', 'spring', 'summer', 'autumn'][(month(day + INTERVAL 1 MONTH) - 1) // 3 + 1] season,
       category, region, count(*) sales, sum(units)::BIGINT units, sum(cents)::BIGINT revenue_cents
FROM (SELECT date_trunc('month', day) AS day, category, region, units,
             (round(factor::DECIMAL(8, 0) * price::DECIMAL(24, 18), 2) * 100)::BIGINT AS cents
      FROM sales)
GROUP BY ALL ORDER BY ALL
"""


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A small local Spark, set as the job sets it."""
    local = {"spark.master": "local[2]", "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    session = spark_session("tests", {**SETTINGS, **local})
    yield session
    session.stop()


@pytest.fixture
def output(tmp_path: Path) -> str:
    """An empty output address."""
    return address(str(tmp_path / "out"))


def _roll(spark: SparkSession, source: Path, output: str, run: str = "r1", **asked: Any) -> dict[str, Any]:
    request = Request(address(str(source)), f"{output}/", run, **asked)
    return roll_up(spark, STORE, request, find_input(STORE, request.input))


def _table(figures: dict[str, Any]) -> list[dict[str, Any]]:
    return list(read_parquet(STORE, figures["table"]).to_pylist())


def _sums(figures: dict[str, Any]) -> list[dict[str, Any]]:
    names = ("season_year", "season", "category", "region", "sales", "units", "revenue_cents")
    return sorted(({name: row[name] for name in names} for row in _table(figures)), key=str)


def _expected(sales: pa.Table) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.register("sales", sales)
        return sorted(connection.sql(EXPECTED).to_arrow_table().to_pylist(), key=str)


def _write_csv(path: Path, rows: Iterable[Iterable[str]], start: str = "") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(start + text.getvalue(), newline="")
    return path


def _small_csv(path: Path, dates: Iterable[str], amount: str = "1") -> Path:
    rows = [[date, "c", "r", amount] for date in dates]
    return _write_csv(path, [["sold_at", "category", "region", "amount"], *rows])


def _some_sales(count: int) -> list[dict[str, Any]]:
    """Rows with half cents of both signs, returns and names that need quoting; same each time."""
    draw = random.Random(7)
    first = datetime(2021, 12, 1)  # noqa: DTZ001 - times of an input have no zone
    return [
        {
            "day": first + timedelta(minutes=draw.randrange(60 * 24 * 800)),
            "category": draw.choice(NAMES),
            "region": draw.choice("NS"),
            "units": draw.choice([1, 2, 3, -1, 7]),
            "price": draw.choice(
                ["0.005", "1.005", "2.675", "-1.005", "0.30000000000000004", "1234.5", "19.99"]
            ),
        }
        for _ in range(count)
    ]


def test_a_csv_equals_decimals_to_the_cent(spark: SparkSession, tmp_path: Path, output: str) -> None:
    """Quotes, commas, newlines, half cents, currency, a BOM: all sums are those of DuckDB."""
    sales = _some_sales(3000)
    rows = [
        [
            f"{row['day']:%m/%d/%Y %H:%M}",
            row["category"],
            row["region"],
            str(row["units"]),
            "$1,234.50" if row["price"] == "1234.5" else row["price"],
        ]
        for row in sales
    ]
    bad = [
        (["13/25/2021", "c", "r", "1", "1"], "a date that can't be read"),
        (["", "c", "r", "1", "1"], "no date"),
        (["1/2/2022", " ", "r", "1", "1"], "no category"),
        (["1/2/2022", "c", "", "1", "1"], "no region"),
        (["1/2/2022", "c", "r", "", "1"], "no quantity"),
        (["1/2/2022", "c", "r", "1.5", "1"], "a quantity that is not a whole number"),
        (["1/2/2022", "c", "r", "1", ""], "no amount"),
        (["1/2/2022", "c", "r", "1", "1,234"], "an amount that is not a number, or too large"),
        (["1/2/2022", "c", "r", "1", "9" * 30], "an amount that is not a number, or too large"),
        (["1/2/2022", "c", "r", "1"], "a wrong number of fields"),
        (["1/2/2022", "c", "r", "1", "1", "extra"], "a wrong number of fields"),
    ]
    header = [COLUMNS[key] for key in ("sold_at", "category", "region", "quantity", "unit_price")]
    source = _write_csv(
        tmp_path / "in [1]" / "sales.csv", [header, *rows, *(row for row, _ in bad)], "\ufeff"
    )
    figures = _roll(spark, source, output, columns=COLUMNS)
    as_arrow = pa.Table.from_pylist([{**row, "factor": row["units"]} for row in sales])
    assert _sums(figures) == _expected(as_arrow)
    assert figures["rows_read"] == 3000 + len(bad)
    assert figures["rows_used"] == 3000
    assert figures["rows_rejected"] == len(bad) == sum(figures["rejected_reasons"].values())
    assert figures["rows_rounded"] == sum(
        (int(row["price"].split(".")[1].ljust(20, "0")) * row["units"]) % 10**18 != 0 for row in sales
    )
    rejected = read_parquet(STORE, figures["rejected"]).to_pylist()
    found = sorted((row["Order Date"] or "", row["Price, each"] or "", row["reason"]) for row in rejected)
    assert found == sorted((row[0], row[4] if len(row) > 4 else "", reason) for row, reason in bad)
    assert "1/2/2022,c,r,1,1,extra" in [row["malformed row"] for row in rejected]


def test_a_parquet_of_doubles_equals_decimals(spark: SparkSession, tmp_path: Path, output: str) -> None:
    """A double counts by its shortest text; times in nanoseconds, as pandas writes them, are read."""
    sales = pa.Table.from_pylist([{**row, "factor": 1} for row in _some_sales(3000)])
    written = pa.table(
        {
            "sold_at": sales["day"].cast(pa.timestamp("ns")),
            "category": sales["category"].dictionary_encode(),
            "region": sales["region"],
            "quantity": sales["units"].cast(pa.int32()),
            "amount": sales["price"].cast(pa.float64()),
            "reason": sales["region"],
        }
    )
    no_number = pa.table({"amount": [float("nan"), 1e30]})
    broken = written.slice(0, 2).set_column(4, "amount", no_number["amount"])
    source = tmp_path / "in" / "part.parquet"
    source.parent.mkdir()
    pq.write_table(pa.concat_tables([written, broken]), source)
    figures = _roll(spark, source.parent, output)
    assert _sums(figures) == _expected(sales)
    assert figures["rows_rejected"] == 2
    assert "reason (input)" in read_parquet(STORE, figures["rejected"]).column_names


def _monthly(root: Path, first: str, cents: list[int], category: str = "c", day: int = 1) -> Path:
    """One sale a month from month `first` on, in folders month=YYYY-MM; 0 is no sale but of another."""
    start = month_of(first)
    for place, amount in enumerate(cents):
        year, month = divmod(start + place, 12)
        rows = {
            "sold_at": pa.array([datetime(year, month + 1, day)], pa.timestamp("us", "UTC")),  # noqa: DTZ001
            "category": [category if amount else "other"],
            "region": ["r"],
            "amount_cents": pa.array([amount or 1], pa.int64()),
        }
        folder = root / f"month={year:04}-{month + 1:02}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows), folder / f"{category}.parquet")
    return root


def test_index_and_growth_need_whole_years(spark: SparkSession, tmp_path: Path, output: str) -> None:
    """By hand: a season without sales counts 0 in the mean, growth needs both years, December leads."""
    year_1 = [100, 100, 100, 200, 200, 200, 0, 0, 0, 200, 200, 200]
    year_2 = [150, 150, 150, 100, 100, 100, 50, 50, 50, 300, 300, 300]
    source = _monthly(tmp_path / "in", "2021-11", [50, *year_1, *year_2, 900])
    rows = {
        (row["season_year"], row["season"]): (
            row["revenue_cents"],
            row["seasonal_index"],
            row["growth"],
            row["complete"],
        )
        for row in _table(_roll(spark, source, output))
        if row["category"] == "c"
    }
    assert rows == {
        (2021, "autumn"): (50, None, None, False),
        (2022, "winter"): (300, 300 * 4 / 1500, None, True),
        (2022, "spring"): (600, 600 * 4 / 1500, None, True),
        (2022, "autumn"): (600, 600 * 4 / 1500, None, True),
        (2023, "winter"): (450, 450 * 4 / 1800, 0.5, True),
        (2023, "spring"): (300, 300 * 4 / 1800, -0.5, True),
        (2023, "summer"): (150, 150 * 4 / 1800, None, True),
        (2023, "autumn"): (900, 900 * 4 / 1800, 0.5, True),
        (2024, "winter"): (900, None, None, False),
    }


def test_growth_is_over_the_year_before_and_no_other(spark: SparkSession) -> None:
    """Nothing or nothing earned a year before gives no growth; a mean of 0 gives no index."""
    sums = [(4, 100), (12, 300), (16, 0), (20, 50)]  # winters of years 1, 3, 4 and 5
    columns = "season int, revenue_cents long, category string, region string, sales long, units long"
    frame = spark.createDataFrame([(*row, "c", "r", 1, 1) for row in sums], columns)
    rows = finished_table(frame, [1, 2, 3, 4, 5]).select("season_year", "seasonal_index", "growth").collect()
    assert [tuple(row) for row in rows] == [(1, 4.0, None), (3, 4.0, None), (4, None, -1.0), (5, 4.0, None)]


@pytest.mark.parametrize("folders", [True, False])
def test_a_month_gives_the_table_of_a_full_run(
    spark: SparkSession, tmp_path: Path, output: str, *, folders: bool
) -> None:
    """After a month's data changed, its run reads one season and gives what a full run gives."""

    def source(cents: list[int]) -> Path:
        root = _monthly(tmp_path / "in", "2021-12", cents)
        if not folders:
            whole = pq.read_table(root, partitioning=None)
            (tmp_path / "one").mkdir(exist_ok=True)
            pq.write_table(whole, tmp_path / "one" / "all.parquet")
            return tmp_path / "one"
        return root

    cents = [100 + n for n in range(25)]
    _roll(spark, source(cents), output, "r1")
    cents[16] = 77_777  # 2023-04
    path = source(cents)
    month = _roll(spark, path, output, "r2", month=month_of("2023-04"))
    assert (month["mode"], month["months_read"]) == ("month", ["2023-03", "2023-04", "2023-05"])
    assert month["rows_read"] == 3
    full = _roll(spark, path, output, "r3")
    assert _table(month) == _table(full)
    for name in ("months", "groups", "units", "revenue_cents", "folders"):
        assert month[name] == full[name]


def test_a_month_that_cant_stand_alone_reads_everything(
    spark: SparkSession, tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing published, other months changed, rows in another month's folder: each is said."""
    source = _monthly(tmp_path / "in", "2021-12", [100] * 14)

    def run(name: str) -> str:
        figures = _roll(spark, source, output, name, month=month_of("2022-10"))
        assert figures["mode"] == "full"
        return capsys.readouterr().out

    assert "nothing is published" in run("r1")
    _monthly(tmp_path / "in", "2022-01", [50], category="new")
    assert "other months have changed, 2022-01 first" in run("r2")
    strayed = _monthly(tmp_path / "elsewhere", "2022-12", [70], category="strayed")
    found = next(strayed.rglob("*.parquet"))
    found.rename(source / "month=2022-11" / "strayed.parquet")
    assert "folder of another month" in run("r3")
    assert "folder of another month" in run("r4")
    with pytest.raises(UserError, match="no sales in 2023-02; it has 2021-12 to 2023-01"):
        _roll(spark, source, output, "r5", month=month_of("2023-02"))


def test_ambiguous_dates_are_the_users_to_decide(spark: SparkSession, tmp_path: Path, output: str) -> None:
    """Day or month first: both are named, nothing is published, and DATE_FORMAT decides."""
    source = _small_csv(tmp_path / "in.csv", ["1/2/2022", "3/4/2022"])
    with pytest.raises(UserError, match="M/d/yyyy and as d/M/yyyy, 2 of them"):
        _roll(spark, source, output)
    assert not list(STORE.list(output))
    assert list(_roll(spark, source, output, date_format="d/M/yyyy")["months"]) == ["2022-02", "2022-04"]
    with pytest.raises(UserError, match="'nonsense' is no date pattern"):
        _roll(spark, source, output, "r2", date_format="nonsense")


def test_a_failure_leaves_what_is_published(spark: SparkSession, tmp_path: Path, output: str) -> None:
    """After a run without a usable row latest.json is what it was, and the rows are in rejected/."""
    _roll(spark, _small_csv(tmp_path / "good.csv", ["2022-01-02"]), output, "r1")
    before = STORE.get(below(output, "latest.json"))
    with pytest.raises(UserError, match=r"no row .* can be used: 1 with an amount that is not a number"):
        _roll(spark, _small_csv(tmp_path / "bad.csv", ["2022-01-02"], "5 $"), output, "r2")
    assert STORE.get(below(output, "latest.json")) == before
    assert read_parquet(STORE, below(output, "r2", "rejected", "")).num_rows == 1
    with pytest.raises(UserError, match="r1 is published already"):
        _roll(spark, tmp_path / "good.csv", output, "r1")


def test_wrong_inputs_are_one_line(spark: SparkSession, tmp_path: Path, output: str) -> None:
    """Nothing there, two formats, a missing column, headers that differ: each is named."""
    folder = tmp_path / "in"
    with pytest.raises(UserError, match=r"there is no \.parquet"):
        _roll(spark, folder, output)
    _small_csv(folder / "a.csv", ["2022-01-02"])
    with pytest.raises(UserError, match="no column 'Day' for sold_at; its columns are 'sold_at', 'category'"):
        _roll(spark, folder, output, columns={"sold_at": "Day"})
    _write_csv(folder / "b.csv", [["sold_at", "region", "category", "amount"], ["2022-01-02", "r", "c", "1"]])
    with pytest.raises(UserError, match=r"in/b.csv has another header"):
        _roll(spark, folder, output)
    with pytest.raises(UserError, match="has no rows"):
        _roll(spark, _small_csv(tmp_path / "empty.csv", []), output)
    (folder / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"in/c.parquet can't be read as Parquet"):
        _roll(spark, folder / "c.parquet", output)
    with pytest.raises(UserError, match="both CSV and Parquet"):
        _roll(spark, folder, output)
    assert not list(STORE.list(output))


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("yyyy-MM-dd", {"2021-3-04": 3, "2021-04-01T01:30:00.5+02:00": 3, "2021-04-01 00:30+0100": 3}),
        ("yyyy-MM-dd", {"12:30": None, "2021": None, "2021-02-30": None, "2021-03-01 25:00": None}),
        ("yyyy/M/d", {"2021/03/04": 3, "2021/3/4 9:05": 3, "2021/13/04": None}),
        ("M/d/yyyy", {"3/25/2021": 3, "03/04/2021 3:05:09 PM": 3, "25/3/2021": None}),
        ("d-M-yyyy", {"25-3-2021 00:00": 3, "3-25-2021": None}),
        ("d.M.yyyy", {"25.03.2021": 3, "25.03.21": None}),
        ("d/M/yy", {"25/03/21": 3, "25/03/2021": None}),
        ("epoch_ms", {"1614556799999": 2, "1614556800000": 3, "-1": 12, "x": None, "9" * 25: None}),
        ("dd MMM yyyy", {"04 Mar 2021": 3, "2021-03-04": None}),
    ],
)
def test_dates_are_read_or_null(spark: SparkSession, name: str, texts: dict[str, int | None]) -> None:
    """Each format reads what it names, in UTC, and nothing else."""
    frame = spark.createDataFrame([(text,) for text in texts], "text string")
    month = month_number(time_of(fn.col("text"), StringType(), name))
    assert {row[0]: row[1] for row in frame.select("text", month % 12 + 1).collect()} == texts


def test_every_format_finds_itself(spark: SparkSession) -> None:
    """No two formats of different shape read the same text."""
    texts = [item.name.replace("yyyy", "2021").replace("yy", "21") for item in FORMATS]
    texts = [
        text.replace("MM", "03").replace("dd", "25").replace("M", "3").replace("d", "25") for text in texts
    ]
    frame = spark.createDataFrame([(text,) for text in texts], "text string")
    read = frame.select(*(item.read(fn.col("text")).isNotNull() for item in FORMATS)).collect()
    assert [[n for n, seen in enumerate(row) if seen] for row in read] == [[n] for n in range(len(FORMATS))]


def test_months_are_those_of_the_calendar(spark: SparkSession) -> None:
    """The arithmetic agrees with Spark's year() and month() from 1500 to 2500, to the second."""
    seconds = spark.range(-14_800_000_000, 16_700_000_000, 86_399 * 11).select(
        fn.timestamp_seconds("id").alias("t")
    )
    edges = spark.sql(
        "SELECT explode(array(timestamp'2021-11-30 23:59:59.999999', timestamp'1968-02-29')) AS t"
    )
    wrong = fn.year("t") * 12 + fn.month("t") - 1 != month_number(fn.col("t"))
    assert seconds.union(edges).filter(wrong).count() == 0
