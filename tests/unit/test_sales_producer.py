"""The generated sales: which rows come out, and whether the planted patterns are in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from producers import sales
from producers.sales import PART_BLOCKS, parts, write_parquet
from producers.sales_catalogue import PRODUCTS_PER_CATEGORY, QUANTITY_SHARES
from producers.sales_patterns import CATEGORIES, REGIONS, SEASONS, expected_growth, expected_index
from producers.sales_rows import BLOCK_ROWS, SCHEMA, generate_month, plan

ROWS = 600_000
START, END = datetime(2021, 12, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


def generate(rows: int, seed: int = 7) -> pa.Table:
    """All rows as one table."""
    return pa.Table.from_batches(
        (batch for month in plan(rows) for batch in generate_month(month, seed)), SCHEMA
    )


@cache
def many() -> pa.Table:
    """The rows that several tests look at."""
    return generate(ROWS)


@cache
def revenue() -> dict[tuple[str, str, int, str], tuple[int, int]]:
    """(revenue in cents, number of sales) by category, region, season-year and season."""
    table = many()
    year, month = pc.year(table["sold_at"]).to_numpy(), pc.month(table["sold_at"]).to_numpy()
    names = np.array(["winter", "spring", "summer", "autumn"])
    table = table.append_column("year", pa.array(np.where(month == 12, year + 1, year)))
    table = table.append_column("season", pa.array(names[np.where(month == 12, 0, month) // 3]))
    cents = pc.multiply(table["quantity"].cast(pa.int64()), table["unit_price_cents"])
    keys = ["category", "region", "year", "season"]
    grouped = (
        table.append_column("cents", cents).group_by(keys).aggregate([("cents", "sum"), ("cents", "count")])
    )
    return {
        (row["category"], row["region"], row["year"], row["season"]): (row["cents_sum"], row["cents_count"])
        for row in grouped.to_pylist()
    }


def test_the_same_rows_and_seed_give_the_same_sales() -> None:
    """Generating twice gives equal tables; another seed gives another one."""
    assert generate(20_000).equals(generate(20_000))
    assert not generate(20_000).equals(generate(20_000, seed=8))


@pytest.mark.parametrize("rows", [1, 59, 1_000, 16_385, 123_457, 2_000_000_000])
def test_the_months_share_out_exactly_the_rows_asked_for(rows: int) -> None:
    """The plan's months, and the objects planned for them, add up to the rows, without a gap in the ids."""
    planned = plan(rows)
    assert len(planned) == 60
    assert sum(month.rows for month in planned) == rows
    ids = [month.first_id for month in planned]
    assert ids == [1 + sum(month.rows for month in planned[:number]) for number in range(60)]
    assert sum(part.rows for part in parts(rows)) == rows
    assert all(0 < part.rows <= PART_BLOCKS * BLOCK_ROWS for part in parts(rows))
    assert len({part.key for part in parts(rows)}) == len(parts(rows))


def test_ids_are_unique_and_ascend_with_time() -> None:
    """sale_id counts from 1 to the number of rows in the order of sold_at, across months."""
    assert np.array_equal(many()["sale_id"].to_numpy(), np.arange(1, ROWS + 1))
    assert np.all(np.diff(pc.cast(many()["sold_at"], pa.int64()).to_numpy()) >= 0)


def test_columns_and_their_ranges() -> None:
    """The table has the declared columns; times lie in UTC inside the five years, values in range."""
    table = many()
    assert table.schema.names == [
        "sale_id", "sold_at", "store", "region", "product", "category", "quantity", "unit_price_cents",
    ]  # fmt: skip
    assert table.schema.field("sold_at").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("quantity").type == pa.int32()
    assert table.schema.field("unit_price_cents").type == table.schema.field("sale_id").type == pa.int64()
    assert all(column.null_count == 0 for column in table.columns)
    first, last = pc.min_max(table["sold_at"]).as_py().values()
    assert START <= first < START + timedelta(days=1)
    assert END - timedelta(days=1) < last < END
    assert pc.min_max(table["quantity"]).as_py() == {"min": 1, "max": 4}
    assert pc.min(table["unit_price_cents"]).as_py() > 0
    assert set(pc.unique(table["region"]).to_pylist()) == set(REGIONS)
    assert set(pc.unique(table["category"]).to_pylist()) == set(CATEGORIES)


def test_a_row_lies_in_the_month_that_it_was_planned_for() -> None:
    """Every month's times stay inside the month, its first and last day included."""
    for month in plan(ROWS):
        times = pa.Table.from_batches(generate_month(month, 7))["sold_at"]
        assert set(pc.strftime(times, "%Y-%m").unique().to_pylist()) == {month.label}
        assert pc.day(times)[0].as_py() == 1
        following = pc.add(times[-1], pa.scalar(timedelta(days=1)))
        assert following.as_py().day == 1


@pytest.mark.parametrize(("part", "whole", "count"), [("store", "region", 40), ("product", "category", 96)])
def test_a_store_has_one_region_and_a_product_one_category(part: str, whole: str, count: int) -> None:
    """Each store comes with one region only, each product with one category only."""
    pairs = many().group_by([part, whole]).aggregate([]).to_pylist()
    assert len(pairs) == len({pair[part] for pair in pairs}) == count


def test_blocks_do_not_depend_on_how_they_are_grouped() -> None:
    """A month block by block, or one block alone, is the month made at once: memory can stay flat."""
    month = plan(5_000_000)[30]
    assert len(month.blocks) > 4
    whole = list(generate_month(month, 7))
    assert [batch.num_rows for batch in whole[:-1]] == [BLOCK_ROWS] * (len(whole) - 1)
    assert next(generate_month(month, 7, range(3, 4))).equals(whole[3])
    halves = [*generate_month(month, 7, month.blocks[:2]), *generate_month(month, 7, month.blocks[2:])]
    assert pa.Table.from_batches(halves).equals(pa.Table.from_batches(whole))


def test_row_groups_do_not_change_the_rows_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in row groups of one block holds the rows of a file in one row group, in order of time."""
    part = parts(3_000_000)[0]
    write_parquet(tmp_path / "one", part, 7)
    monkeypatch.setattr(sales, "GROUP_BLOCKS", 1)
    write_parquet(tmp_path / "many", part, 7)
    assert pq.ParquetFile(tmp_path / "one").num_row_groups == 1
    assert pq.ParquetFile(tmp_path / "many").num_row_groups == len(part.blocks)
    assert pq.read_table(tmp_path / "many").equals(pq.read_table(tmp_path / "one"))
    assert pq.read_table(tmp_path / "one").equals(pa.Table.from_batches(generate_month(part.month, 7)))


def test_the_table_of_patterns_reads_as_the_finding() -> None:
    """Multipliers of a line average 1 and shares add up to 1, so a number in the table is an index."""
    for pattern in CATEGORIES.values():
        assert set(pattern.exceptions) <= set(REGIONS)
        for line in (pattern.seasons, *pattern.exceptions.values()):
            assert sum(line) == pytest.approx(4)
    assert sum(pattern.share for pattern in CATEGORIES.values()) == pytest.approx(1)
    assert sum(region.share for region in REGIONS.values()) == pytest.approx(1)
    assert expected_index("toys", "west")["winter"] == pytest.approx(1.6)
    assert expected_index("sports", "north") == pytest.approx(
        {"winter": 1.5, "spring": 0.8, "summer": 0.8, "autumn": 0.9}
    )
    assert expected_growth("books") == -0.04


def test_the_probabilities_give_the_expected_findings_exactly() -> None:
    """Rows of a month times the probabilities in it give index and growth, bar the rounding to rows."""
    shape = (len(CATEGORIES), len(REGIONS), PRODUCTS_PER_CATEGORY * len(QUANTITY_SHARES))
    months = [month.rows * np.diff(month.outcomes).reshape(shape).sum(axis=2) for month in plan(10**12)]
    sold = (
        np.array(months).reshape(5, 4, 3, len(CATEGORIES), len(REGIONS)).sum(axis=2)
    )  # [year, season, c, r]
    index = sold / sold.mean(axis=1, keepdims=True)
    growth = sold[1:] / sold[:-1] - 1
    for c, category in enumerate(CATEGORIES):
        assert growth[:, :, c] == pytest.approx(expected_growth(category), abs=1e-8)
        for r, region in enumerate(REGIONS):
            expected = list(expected_index(category, region).values())
            assert index[:, :, c, r] == pytest.approx(np.tile(expected, (5, 1)), rel=1e-8)


def test_the_planted_index_comes_out_of_the_rows() -> None:
    """Over five years every season's index is the planted one within one standard error of counting.

    Rows drawn one by one would miss a season of n sales by more than n ** -0.5 in a third of the 160
    cases, before differences in price. The rows are a systematic sample, so none may.
    """
    for category in CATEGORIES:
        for region in REGIONS:
            cells = [
                [revenue()[category, region, year, name] for year in range(2022, 2027)] for name in SEASONS
            ]
            cents = np.array(cells).sum(axis=1)
            measured = cents[:, 0] / cents[:, 0].mean()
            expected = np.array(list(expected_index(category, region).values()))
            assert np.all(np.abs(measured / expected - 1) < cents[:, 1] ** -0.5), (category, region)


def test_the_planted_growth_comes_out_of_the_rows() -> None:
    """Each category grows from year to year by its rate within 1.5 points: sqrt(2 / 10,000 sales) is 1.4."""
    for category in CATEGORIES:
        years = np.zeros(5)
        for (name, _region, year, _season), (cents, _count) in revenue().items():
            years[year - 2022] += cents if name == category else 0
        assert years[1:] / years[:-1] - 1 == pytest.approx(expected_growth(category), abs=0.015)
