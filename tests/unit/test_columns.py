"""COLUMNS: how it is read and which input column each canonical one becomes."""

from __future__ import annotations

import pytest

from infra.contracts.columns import parse_columns, resolve_columns
from infra.contracts.errors import UserError

INPUT = ["Order Date", "category", "region", "amount", "unit_price", "quantity", "Sales, net"]


def test_columns_are_pairs() -> None:
    """Each pair is canonical=Input Column, its name taken as it is, also with commas and equals signs."""
    text = 'sold_at=Order Date, region=a.b=`c`,"amount=Sales, net"'
    assert parse_columns(text) == {"sold_at": "Order Date", "region": "a.b=`c`", "amount": "Sales, net"}
    assert parse_columns(" ") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("date=Order Date", "no column 'date'; the columns are sold_at, category"),
        ("sold_at", "'sold_at' is not canonical=Input Column"),
        ("sold_at=", "'sold_at=' is not"),
        ("region=a,region=b", "region is given twice"),
        ("amount=a,unit_price=b", "both amount and unit_price"),
    ],
)
def test_wrong_columns_are_named(text: str, says: str) -> None:
    """A wrong key or pair is named, in one line, with the keys there are."""
    with pytest.raises(UserError, match=says) as error:
        parse_columns(text)
    assert "\n" not in str(error.value)


def test_unnamed_columns_go_by_their_own_name() -> None:
    """What COLUMNS leaves out is the input's column of that name; a row's total is preferred."""
    places = resolve_columns({"sold_at": "Order Date"}, INPUT)
    assert places == {"sold_at": 0, "category": 1, "region": 2, "amount": 3, "quantity": 5}


def test_a_named_amount_wins() -> None:
    """An amount that COLUMNS names is used although the input has another by name."""
    places = resolve_columns({"sold_at": "Order Date", "unit_price": "unit_price"}, INPUT)
    assert "amount" not in places
    assert places["unit_price"] == 4


def test_quantity_is_optional() -> None:
    """Without a quantity column there is none in the result; one that is named must exist."""
    assert "quantity" not in resolve_columns({"sold_at": "Order Date"}, INPUT[:4])
    with pytest.raises(UserError, match="no column 'Qty' for quantity"):
        resolve_columns({"sold_at": "Order Date", "quantity": "Qty"}, INPUT)


@pytest.mark.parametrize(
    ("available", "says"),
    [
        (["sold_at", "category", "amount"], "no column 'region' for region; its columns are 'sold_at', 'cat"),
        (["sold_at", "category", "region"], "none of amount, amount_cents, .* its columns are 'sold_at'"),
        (["sold_at", "category", "region", "region", "amount"], "2 columns 'region'"),
    ],
)
def test_missing_columns_list_those_there_are(available: list[str], says: str) -> None:
    """A column that is missing, or there twice, is named beside the columns that exist."""
    with pytest.raises(UserError, match=says):
        resolve_columns({}, available)
