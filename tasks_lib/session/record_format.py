"""Decides how a record is written: one flat object, whose keys and values stay as they are from release to release."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

from tasks_lib.model import AttemptEnd, RecordStage, Stage
from tasks_lib.session.attempt_record import (
    Acceptance,
    AttemptIdentity,
    Conflicts,
    Findings,
    Foreseen,
    Record,
    Rounds,
    Spending,
    Taken,
    TurnRecord,
    Unblocking,
)
from tasks_lib.session.spending import NOTHING, Spent, is_countable


class _WrongTypeError(Exception):
    """A value is not what its key stands for."""


def describe_record(record: Record) -> dict[str, object]:
    """`record` as the object that is written."""
    attempt, turn, acceptance, findings = record.attempt, record.turn, record.acceptance, record.findings
    return {
        "task_id": record.task_id,
        "branch": record.branch,
        "attempt": attempt.number,
        "turn": turn.number,
        "session": attempt.session,
        "run": attempt.run,
        "slot": attempt.slot,
        "stage": str(record.stage or ""),
        "base": attempt.base,
        "turn_start": turn.start,
        "rounds": record.rounds.landing,
        "finished": acceptance.finished,
        "reviewed": acceptance.reviewed,
        "pid": turn.pid,
        "pid_started": turn.pid_started,
        "notes": record.notes,
        "updated": record.updated,
        "allowance": attempt.allowance,
        "refused": acceptance.refused,
        "review_rounds": record.rounds.review,
        "answer": acceptance.answer,
        "verdict": acceptance.verdict,
        "conversation": turn.conversation,
        "messages": turn.messages,
        "spent": asdict(record.spending.node),
        "attempt_spent": asdict(record.spending.attempt),
        "forgiven": asdict(record.spending.forgiven),
        "fork": attempt.fork,
        "cautions": findings.cautions,
        "protected": findings.protected,
        "prepared": findings.prepared,
        **_describe_additions(record),
    }


def _describe_additions(record: Record) -> dict[str, object]:
    """What records of release 0.1.0 do not have; written only where there is something."""
    unblocking = record.unblocking
    found = {
        "requested": record.rounds.requested,
        "blocker": unblocking.blocker,
        "resolver_turns": unblocking.asked,
        "situation": unblocking.situation,
        "left": unblocking.left,
        "fingerprint": unblocking.fingerprint,
        "conflicts": record.conflicts.commits,
        "dropped_rounds": record.conflicts.rounds,
        "allowed_drops": record.conflicts.allowed,
        "conflicts_told": record.foreseen.told,
        "conflicts_held": record.foreseen.held,
        "offered": record.acceptance.offered,
        "permitted": record.acceptance.permitted,
        "taken_by": record.taken.by,
        "taken_at": record.taken.at,
    }
    return {key: value for key, value in found.items() if value}


def parse_record(found: Mapping[str, object]) -> Record | None:
    """The record that `found` describes; None where a value has another type, or there is no task or no branch.

    Unknown keys are ignored, and missing ones have their defaults.
    """
    if not {"task_id", "branch"} <= found.keys():
        return None
    values = _Values(found)
    try:
        return Record(
            values.text("task_id"),
            values.text("branch"),
            _parse_stage(values.text("stage")),
            _parse_attempt(values),
            _parse_turn(values),
            _parse_acceptance(values),
            Rounds(values.number("rounds"), values.number("review_rounds"), values.texts("requested")),
            Spending(values.spent("spent"), values.spent("attempt_spent"), values.spent("forgiven")),
            Findings(values.texts("cautions"), values.texts("protected"), values.texts("prepared")),
            values.texts("notes"),
            values.text("updated"),
            Unblocking(
                values.texts("blocker"),
                values.number("resolver_turns"),
                values.text("situation"),
                values.text("left"),
                values.text("fingerprint"),
            ),
            Conflicts(values.texts("conflicts"), values.number("dropped_rounds"), values.texts("allowed_drops")),
            Foreseen(values.texts("conflicts_told"), values.texts("conflicts_held")),
            Taken(values.text("taken_by"), values.text("taken_at")),
        )
    except _WrongTypeError:
        return None


class _Values:
    """The values of an object by key and type; a missing one is "", 0 or empty. Raises _WrongTypeError."""

    def __init__(self, found: Mapping[str, object]) -> None:
        self._found = found

    def text(self, key: str) -> str:
        value = self._found.get(key, "")
        if not isinstance(value, str):
            raise _WrongTypeError
        return value

    def number(self, key: str, default: int = 0) -> int:
        value = self._found.get(key, default)
        if not is_countable(value) or not isinstance(value, int):
            raise _WrongTypeError
        return value

    def moment(self, key: str) -> float:
        value = self._found.get(key, 0.0)
        if not is_countable(value):
            raise _WrongTypeError
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._found.get(key, [])
        if not isinstance(value, list):
            raise _WrongTypeError
        texts = [one for one in cast("list[object]", value) if isinstance(one, str)]
        if len(texts) != len(cast("list[object]", value)):
            raise _WrongTypeError
        return tuple(texts)

    def spent(self, key: str) -> Spent:
        """Only numbers count, each in the type of its field; what is missing or something else is 0."""
        value = self._found.get(key, {})
        if not isinstance(value, dict):
            raise _WrongTypeError
        known = {name: one for name, one in cast("dict[str, object]", value).items() if is_countable(one)}
        tokens, cost, calls, turns, seconds = (known.get(name, 0) for name in asdict(NOTHING))
        return Spent(int(tokens), float(cost), int(calls), int(turns), float(seconds))


def _parse_stage(text: str) -> RecordStage | None:
    """None for "" and for a word of another version, after which an attempt resumes."""
    known: dict[str, RecordStage] = {str(one): one for kind in (Stage, AttemptEnd) for one in kind}
    return known.get(text)


def _parse_attempt(values: _Values) -> AttemptIdentity:
    return AttemptIdentity(
        number=values.number("attempt", 1),
        allowance=values.number("allowance", 1),
        session=values.text("session"),
        run=values.text("run"),
        slot=values.number("slot"),
        base=values.text("base"),
        fork=values.text("fork"),
    )


def _parse_turn(values: _Values) -> TurnRecord:
    return TurnRecord(
        number=values.number("turn"),
        start=values.text("turn_start"),
        conversation=values.text("conversation"),
        messages=values.texts("messages"),
        pid=values.number("pid"),
        pid_started=values.moment("pid_started"),
    )


def _parse_acceptance(values: _Values) -> Acceptance:
    return Acceptance(
        finished=values.text("finished"),
        reviewed=values.text("reviewed"),
        refused=values.text("refused"),
        answer=values.text("answer"),
        verdict=values.text("verdict"),
        offered=values.text("offered"),
        permitted=values.text("permitted"),
    )
