"""The proof that nothing was lost or doubled: sets of transaction ids, never differences of counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
SHOWN = 20


@dataclass(frozen=True)
class Proof:
    """What became of the transactions of a run.

    `missing` are good transactions that were sent and are not decided, or not archived; `duplicates`
    are ids that were sent, decided or archived again, each repetition counted. `strangers` were
    decided or archived and never sent. `examples` are some ids of each, in words.
    """

    sent: int
    decided: int
    archived: int
    rejected: int
    missing: int
    duplicates: int
    strangers: int
    examples: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or made up."""
        return not (self.missing or self.duplicates or self.strangers)


def prove(sent: Ids, decided: Ids, archived: Ids, rejected: int) -> Proof:
    """Compare what was sent (good records only) with what was decided and what the archive holds.

    Each is the ids as they were read, repetitions included. `rejected` counts the bad records, which
    have no id.
    """
    asked = np.unique(sent)
    results = {"decided": np.unique(decided), "archived": np.unique(archived)}
    lost = {f"not {name}": np.setdiff1d(asked, ids) for name, ids in results.items()}
    strange = {f"{name}, never sent": np.setdiff1d(ids, asked) for name, ids in results.items()}
    doubled = {
        f"{name} twice": repeated(ids)
        for name, ids in (("sent", sent), ("decided", decided), ("archived", archived))
    }
    return Proof(
        sent=len(sent) + rejected,
        decided=len(decided),
        archived=len(archived),
        rejected=rejected,
        missing=len(np.unique(np.concatenate(list(lost.values())))),
        duplicates=sum(len(ids) for ids in doubled.values()),
        strangers=sum(len(ids) for ids in strange.values()),
        examples=tuple(
            f"{what}: {', '.join(map(str, ids[:SHOWN].tolist()))}"
            for what, ids in {**lost, **doubled, **strange}.items()
            if len(ids)
        ),
    )


def repeated(ids: Ids) -> Ids:
    """Each id once for every time that it comes again."""
    ordered = np.sort(ids)
    again: Ids = ordered[1:][ordered[1:] == ordered[:-1]]
    return again


def precision_recall(flagged: Ids, frauds: Ids) -> tuple[float | None, float | None]:
    """The share of flagged transactions that were frauds, and of frauds that were flagged.

    Each id at most once. None where there is nothing to take a share of.
    """
    hits = len(np.intersect1d(flagged, frauds))
    return (hits / len(flagged) if len(flagged) else None, hits / len(frauds) if len(frauds) else None)
