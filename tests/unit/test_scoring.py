"""From records to answers, without servers: states, what is in force, actions, reasons, snapshots."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from msgspec import structs

from infra.contracts.events import Alert, Decision, Transaction, decoder, encode
from infra.contracts.features import FEATURE_LIST, FEATURES, microseconds
from infra.streams.records import Record, Shard
from stream_consumers import shard_state
from stream_consumers.models import Model, ModelCard, Thresholds, UnfitModelError
from stream_consumers.reasons import words
from stream_consumers.scoring import NO_MODEL, answers
from stream_consumers.shard_state import ShardState
from stream_consumers.taking import Row, Taker
from stream_consumers.terminal_tables import COLUMNS, TerminalTable
from tests import scorer_cases as cases

SHARD = Shard("transactions", 3)
SCORED_AT = datetime.fromisoformat("2026-01-02T03:04:05Z")


def record(offset: int, value: bytes | Transaction) -> Record:
    """A record of the shard."""
    body = encode(value) if isinstance(value, Transaction) else value
    key = value.key.encode() if isinstance(value, Transaction) else b"C00000"
    return Record(SHARD, offset, key, body, 1_700_000_000_123, ())


def records(rows: Iterable[Transaction]) -> list[Record]:
    """Records of the shard, from offset 0 on."""
    return [record(offset, row) for offset, row in enumerate(rows)]


def model(version: str = "m1", in_force_from: datetime = cases.LIVE_FROM, onnx: bytes = cases.USUAL) -> Model:
    """A model in memory."""
    digest = hashlib.sha256(onnx).hexdigest()
    limits, reference = Thresholds(0.6, 0.8), (0.0,) * len(FEATURES)
    return Model(
        ModelCard(version, FEATURE_LIST, in_force_from, cases.STEP_S, limits, reference, digest), onnx
    )


def table(as_of: datetime) -> TerminalTable:
    """A table with one terminal, whose fraud share over 7 days is a half."""
    values = [4, 8, 20, 1, 4, 5, 2]
    columns = {name: pa.array([value], pa.int64()) for name, value in zip(COLUMNS, values, strict=True)}
    return TerminalTable(as_of, pa.table({"terminal_id": ["T00000"], **columns}))


def taker(models: Sequence[Model] = (), tables: Iterable[datetime] | None = None) -> Taker:
    """A taker with these models, newest first, and the tables of these times (None: of all)."""
    there = None if tables is None else {microseconds(time): table(time) for time in tables}

    def find(as_of_us: int, step_us: int) -> TerminalTable | None:
        assert as_of_us % step_us == 0
        return table(cases.LIVE_FROM) if there is None else there.get(as_of_us)

    def in_force(time_us: int) -> Model | None:
        return next((each for each in models if each.in_force_us <= time_us), None)

    return Taker(in_force, find, cases.LIVE_FROM)


def features(rows: Iterable[Row]) -> list[list[float]]:
    """The features of rows."""
    return [row.features for row in rows]


def test_each_transaction_gets_one_decision_in_order() -> None:
    """Decisions repeat the transaction, carry score, model and table, and alerts come with the flagged."""
    rows = cases.transactions(1, cases.LIVE_FROM, days=1, per_day=300)
    found = answers(taker([model()]).take(ShardState(0), records(rows)).rows, SCORED_AT)
    decisions = [decoder(Decision).decode(answer.decision) for answer in found]
    assert [each.transaction_id for each in decisions] == [row.transaction_id for row in rows]
    assert {each.action for each in decisions} == {"approve", "review", "block"}
    for answer, decision in zip(found, decisions, strict=True):
        assert (decision.model_version, decision.terminal_as_of) == ("m1", cases.LIVE_FROM)
        assert decision.sent_at.timestamp() == 1_700_000_000.123
        by_name = dict(zip(FEATURES, decision.features, strict=True))
        total = by_name["amount_cents"] / 1e4 + 0.3 * by_name["card_count_1"] - 3
        total += 4 * by_name["terminal_fraud_share_7"]
        assert decision.score == pytest.approx(1 / (1 + math.exp(-total)), abs=1e-6)
        assert (answer.alert is not None) == (decision.action != "approve") == bool(decision.reasons)


def test_an_alert_says_what_pushed_the_score_most() -> None:
    """Its reasons are the features whose usual value lowers the score most, at most three."""
    row = cases.transactions(1, cases.LIVE_FROM, 1, 1)[0]
    high = structs.replace(row, amount_cents=40_000)
    (answer,) = answers(taker([model()]).take(ShardState(0), records([high])).rows, SCORED_AT)
    assert answer.alert is not None
    alert = decoder(Alert).decode(answer.alert)
    assert alert.alert_id == f"transactions-{row.transaction_id}"
    assert alert.reasons[0] == "amount 400.00"
    assert len(alert.reasons) in (2, 3)
    assert words("terminal_fraud_share_7", 0.4) == "terminal's fraud share over 7 days: 40%"
    assert all(words(name, 1.0) for name in FEATURES)


def test_without_a_model_everything_is_approved() -> None:
    """Before the first model is in force a decision has no score, and says why."""
    rows = cases.transactions(1, cases.LIVE_FROM, days=2, per_day=10)
    later = model(in_force_from=cases.LIVE_FROM + cases.DAY)
    found = answers(taker([later]).take(ShardState(0), records(rows)).rows, SCORED_AT)
    for row, answer in zip(rows, found, strict=True):
        decision = decoder(Decision).decode(answer.decision)
        assert (decision.score is None) == (row.event_time < cases.LIVE_FROM + cases.DAY)
        if decision.score is None:
            assert (decision.action, decision.reasons, answer.alert) == ("approve", [NO_MODEL], None)
            assert decision.model_version is decision.terminal_as_of is None


def test_a_model_is_in_force_by_event_time() -> None:
    """In one batch each transaction is scored by its own time's model, and order stands."""
    rows = cases.transactions(1, cases.LIVE_FROM, days=2, per_day=20)
    second = model("m2", cases.LIVE_FROM + cases.DAY, cases.linear_model({}, 0.0))
    found = answers(taker([second, model()]).take(ShardState(0), records(rows)).rows, SCORED_AT)
    decisions = [decoder(Decision).decode(answer.decision) for answer in found]
    assert [each.transaction_id for each in decisions] == [row.transaction_id for row in rows]
    for decision in decisions:
        assert decision.model_version == ("m1" if decision.event_time < cases.LIVE_FROM + cases.DAY else "m2")
        assert decision.model_version == "m1" or decision.score == 0.5


def test_a_missing_table_stops_a_shard_where_it_is() -> None:
    """Records before the gap are answered; the rest is taken later, with the same features."""
    rows = cases.transactions(1, cases.LIVE_FROM, days=3, per_day=30)
    whole = taker([model()]).take(ShardState(0), records(rows))
    state = ShardState(0)
    first = taker([model()], [cases.LIVE_FROM]).take(state, records(rows))
    assert first.waits_for == microseconds(rows[len(first.rows)].event_time)
    assert state.offset == len(first.rows) == sum(r.event_time < cases.LIVE_FROM + cases.DAY for r in rows)
    rest = taker([model()]).take(state, records(rows)[state.offset :])
    assert features([*first.rows, *rest.rows]) == features(whole.rows)


def test_bad_records_are_set_aside_and_touch_nothing() -> None:
    """Not JSON, wrong types, a far future: each has its reason, and the good ones their features."""
    rows = cases.transactions(1, cases.LIVE_FROM, days=1, per_day=20)
    future = structs.replace(rows[5], event_time=rows[5].event_time + timedelta(days=33))
    spoilt: list[bytes | Transaction] = [
        b"",
        b"{",
        b'{"transaction_id": 1}',
        encode(rows[5]).replace(b'"C0', b'7,"x":"C0'),
        future,
    ]
    values = [*rows[:10], *spoilt, *rows[10:]]
    state = ShardState(0)
    taken = taker([model()]).take(state, [record(offset, value) for offset, value in enumerate(values)])
    assert [each.record.offset for each in taken.bad] == [10, 11, 12, 13, 14]
    assert all(each.reason for each in taken.bad)
    assert features(taken.rows) == features(taker([model()]).take(ShardState(0), records(rows)).rows)
    assert state.offset == len(values)
    assert state.newest == rows[-1].event_time


def test_a_far_future_first_record_is_bad_too() -> None:
    """Before its first good record a shard's newest time is the data set's first live one."""
    row = cases.transactions(1, cases.LIVE_FROM + timedelta(days=32), 1, 1)[0]
    taken = taker().take(ShardState(0), records([row]))
    assert (len(taken.rows), len(taken.bad)) == (0, 1)


@pytest.mark.parametrize("cut", [1, 50, 299])
def test_a_restored_state_is_the_same_state(cut: int) -> None:
    """A snapshot and the records after it give the features, and the snapshots, of the whole stream."""
    made = records(cases.transactions(1, cases.LIVE_FROM, days=40, per_day=10))
    state, other = ShardState(0), ShardState(0)
    whole = features(taker([model()]).take(state, made).rows)
    taker().replay(other, made[:cut])
    restored = shard_state.restore(shard_state.encode(shard_state.snapshot(other)))
    assert features(taker([model()]).take(restored, made[cut:]).rows) == whole[cut:]
    assert shard_state.encode(shard_state.snapshot(restored)) == shard_state.encode(
        shard_state.snapshot(state)
    )


def test_a_foreign_snapshot_is_refused() -> None:
    """Bytes of another format are an error, never a guess."""
    body = shard_state.encode(shard_state.snapshot(ShardState(7)))
    assert shard_state.restore(body) == ShardState(7)
    for wrong in (b"", b"{}", body.replace(FEATURE_LIST.encode(), b"00000000")):
        with pytest.raises(shard_state.SnapshotError):
            shard_state.restore(wrong)


def test_a_damaged_model_is_refused() -> None:
    """A model is what its card was written for, or no model."""
    good = model()
    with pytest.raises(UnfitModelError, match="is not the one"):
        Model(good.card, cases.linear_model({}, 1.0))
