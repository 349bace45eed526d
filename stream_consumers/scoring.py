"""Answers to transactions: score, action and reasons, as decisions and alerts. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from infra.contracts.events import Action, Alert, Decision, encode
from infra.contracts.features import EPOCH
from infra.streams.records import Record
from stream_consumers.models import Model
from stream_consumers.reasons import reasons
from stream_consumers.taking import Row

NO_MODEL = "no model yet"
MILLISECOND = timedelta(milliseconds=1)


class Verdict(NamedTuple):
    """What a row's model says of it."""

    score: float | None
    action: Action
    reasons: list[str]


class Answer(NamedTuple):
    """What is sent for a record: its decision and, unless that approves, its alert, both encoded."""

    record: Record
    action: Action
    decision: bytes
    alert: bytes | None


def answers(rows: Sequence[Row], now: datetime) -> list[Answer]:
    """The answers to rows of any shards and models, in the rows' order."""
    return [_answer(row, verdict, now) for row, verdict in zip(rows, _verdicts(rows), strict=True)]


def _verdicts(rows: Sequence[Row]) -> list[Verdict]:
    by_model: dict[Model, list[int]] = {}
    for index, row in enumerate(rows):
        if row.model is not None:
            by_model.setdefault(row.model, []).append(index)
    found = [Verdict(None, "approve", [NO_MODEL])] * len(rows)
    for model, indexes in by_model.items():
        for index, verdict in zip(indexes, _judge(model, [rows[index] for index in indexes]), strict=True):
            found[index] = verdict
    return found


def _judge(model: Model, rows: Sequence[Row]) -> list[Verdict]:
    features = np.array([row.features for row in rows], dtype=np.float32)
    scores = model.score(features)
    actions = [model.action(score) for score in scores.tolist()]
    flagged = [index for index, action in enumerate(actions) if action != "approve"]
    why = reasons(model, [rows[index].features for index in flagged], scores[flagged])
    by_index = dict(zip(flagged, why, strict=True))
    return [
        Verdict(score, action, by_index.get(index, []))
        for index, (score, action) in enumerate(zip(scores.tolist(), actions, strict=True))
    ]


def _answer(row: Row, verdict: Verdict, now: datetime) -> Answer:
    decision = _decision(row, verdict, now)
    alert = None if verdict.action == "approve" else encode(_alert(row.record.shard.stream, decision))
    return Answer(row.record, verdict.action, encode(decision), alert)


def _decision(row: Row, verdict: Verdict, now: datetime) -> Decision:
    transaction = row.transaction
    return Decision(
        transaction_id=transaction.transaction_id,
        event_time=transaction.event_time,
        card_id=transaction.card_id,
        terminal_id=transaction.terminal_id,
        amount_cents=transaction.amount_cents,
        score=verdict.score,
        action=verdict.action,
        reasons=verdict.reasons,
        model_version=row.model.version if row.model else None,
        terminal_as_of=row.table.as_of if row.table else None,
        features=row.features,
        sent_at=EPOCH + row.record.timestamp_ms * MILLISECOND,
        scored_at=now,
    )


def _alert(stream: str, decision: Decision) -> Alert:
    """`stream` is the transactions': with the id it makes the alert's, the same on every try."""
    assert decision.score is not None
    assert decision.model_version is not None
    return Alert(
        alert_id=f"{stream}-{decision.transaction_id}",
        transaction_id=decision.transaction_id,
        event_time=decision.event_time,
        card_id=decision.card_id,
        terminal_id=decision.terminal_id,
        amount_cents=decision.amount_cents,
        score=decision.score,
        action=decision.action,
        reasons=decision.reasons,
        model_version=decision.model_version,
        sent_at=decision.sent_at,
        scored_at=decision.scored_at,
    )
