"""The proof of a stream: a loss and a double never cancel out."""

from __future__ import annotations

import numpy as np
import pytest

from infra.stories.stream_proof import Ids, Proof, precision_recall, prove


def ids(*values: int) -> Ids:
    """Ids as they were read."""
    return np.array(values, dtype=np.int64)


def test_all_once_holds() -> None:
    """Everything decided and archived once, in any order; bad records are counted apart."""
    proof = prove(ids(1, 2, 3), ids(3, 1, 2), ids(2, 3, 1), rejected=4)
    assert proof == Proof(7, 3, 3, 4, 0, 0, 0, ())
    assert proof.holds


@pytest.mark.parametrize(
    ("decided", "archived", "missing", "duplicates", "strangers", "example"),
    [
        (ids(1, 2, 2), ids(1, 2, 3), 1, 1, 0, "not decided: 3"),
        (ids(1, 2, 3), ids(1, 3), 1, 0, 0, "not archived: 2"),
        (ids(1, 2), ids(1, 2), 1, 0, 0, "not decided: 3"),
        (ids(1, 2, 3), ids(1, 2, 3, 3, 3), 0, 2, 0, "archived twice: 3, 3"),
        (ids(1, 2, 3, 9), ids(1, 2, 3), 0, 0, 1, "decided, never sent: 9"),
    ],
)
def test_what_is_wrong_is_found(
    decided: Ids, archived: Ids, missing: int, duplicates: int, strangers: int, example: str
) -> None:
    """Losses, doubles and strangers are each counted, with examples."""
    proof = prove(ids(1, 2, 3), decided, archived, rejected=0)
    assert (proof.missing, proof.duplicates, proof.strangers) == (missing, duplicates, strangers)
    assert example in proof.examples
    assert not proof.holds


def test_sent_twice_is_a_duplicate() -> None:
    """A producer that repeated a record is found out, though all else is as it was sent."""
    assert prove(ids(1, 1), ids(1, 1), ids(1, 1), rejected=0).duplicates == 3


def test_precision_and_recall() -> None:
    """Shares of what there is; nothing flagged or no fraud has none."""
    assert precision_recall(ids(1, 2, 3, 4), ids(4, 5)) == (0.25, 0.5)
    assert precision_recall(ids(), ids(4)) == (None, 0.0)
    assert precision_recall(ids(4), ids()) == (0.0, None)
