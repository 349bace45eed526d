"""Which column of a user's input each column that we know is read from; for sales and transactions."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.contracts.errors import UserError

REQUIRED = ("sold_at", "category", "region")
# In order of preference where the input has several by name: a row's total before a unit's price.
AMOUNTS = ("amount", "amount_cents", "unit_price", "unit_price_cents")
OPTIONAL = ("quantity", "sale_id", "store", "product")
CANONICAL = REQUIRED + AMOUNTS + OPTIONAL
EXAMPLE = "'sold_at=Order Date,category=Category,region=Region,amount=Sales'"


@dataclass(frozen=True)
class Choice:
    """The columns that an input is read by; `example` is a COLUMNS that an error message shows."""

    names: tuple[str, ...]
    example: str

    def parse(self, text: str) -> dict[str, str]:
        """COLUMNS, `canonical=Input Column,...`, as a dict; an empty text is an empty dict.

        An input column with a comma in its name is written as "amount=Sales, net", with the quotes.
        Raises UserError that names the bad key and the keys there are.
        """
        if not text.strip():
            return {}
        columns: dict[str, str] = {}
        for pair in next(csv.reader([text], skipinitialspace=True)):
            key, equals, name = (part.strip() for part in pair.partition("="))
            if not (key and equals and name):
                raise UserError(
                    f"COLUMNS: {pair!r} is not canonical=Input Column; write it as {self.example}"
                )
            if key not in self.names:
                raise UserError(
                    f"COLUMNS: there is no column {key!r}; the columns are {', '.join(self.names)}"
                )
            if key in columns:
                raise UserError(f"COLUMNS: {key} is given twice")
            columns[key] = name
        return columns

    def position(self, key: str, columns: Mapping[str, str], available: Sequence[str]) -> int:
        """Where in `available` a column is: under the name that COLUMNS gives it, or its own.

        Raises UserError that lists the columns that exist.
        """
        name = columns.get(key, key)
        found = [position for position, column in enumerate(available) if column == name]
        if not found:
            raise UserError(
                f"the input has no column {name!r} for {key}; its columns are {_listed(available)}; "
                f"name the right one in COLUMNS, as in {self.example}"
            )
        if len(found) > 1:
            raise UserError(f"the input has {len(found)} columns {name!r}; rename all but the one for {key}")
        return found[0]


SALES = Choice(CANONICAL, EXAMPLE)
TRANSACTIONS = Choice(
    ("card_id", "terminal_id", "event_time", "amount", "fraud"),
    "'card_id=card1,terminal_id=addr1,amount=TransactionAmt,event_time=TransactionDT,fraud=isFraud'",
)


def parse_columns(text: str) -> dict[str, str]:
    """COLUMNS of sales as a dict (see Choice.parse), with one amount at most."""
    columns = SALES.parse(text)
    _one_amount(columns)
    return columns


def resolve_columns(columns: Mapping[str, str], available: Sequence[str]) -> dict[str, int]:
    """The position in `available` of each canonical column that the rollup reads.

    One that COLUMNS doesn't name is the input's column of that same name. The result has the
    required ones, exactly one of AMOUNTS, and `quantity` if there is one. Raises UserError that
    lists the columns that exist.
    """
    named_amount = _one_amount(columns)
    by_name = {key: columns.get(key, key) for key in CANONICAL}
    for key in columns:
        SALES.position(key, columns, available)
    present = [key for key in AMOUNTS if by_name[key] in available]
    amount = named_amount or next(iter(present), None)
    if amount is None:
        raise UserError(
            f"the input has none of {', '.join(AMOUNTS)}; its columns are {_listed(available)}; "
            "name one in COLUMNS, as in 'amount=Sales'"
        )
    keys = [*REQUIRED, amount]
    if by_name["quantity"] in available:
        keys.append("quantity")
    return {key: SALES.position(key, columns, available) for key in keys}


def _one_amount(columns: Mapping[str, str]) -> str | None:
    named = [key for key in AMOUNTS if key in columns]
    if len(named) > 1:
        raise UserError(f"COLUMNS names both {named[0]} and {named[1]}; give one of them")
    return named[0] if named else None


def _listed(available: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in available)
