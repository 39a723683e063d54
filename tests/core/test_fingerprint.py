"""A fingerprint differs exactly if something that an attempt depends on does, and dispatches are counted by it."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from tasks_lib.model import AttemptEnd, BlockerKind
from tasks_lib.session.attempt_record import AttemptIdentity, Record, Rounds, Spending, Unblocking
from tasks_lib.session.blockers import Blocker, read_blocker, write_blocker
from tasks_lib.session.fingerprint import AttemptInputs, Dispatches, digest_inputs, digest_situation
from tasks_lib.session.record_format import describe_record, parse_record
from tasks_lib.session.spending import Spent

INPUTS = AttemptInputs("w", "t", ("p 1",), ("n",), "s", "r", "m")


@pytest.mark.parametrize("name", [field.name for field in fields(AttemptInputs)])
def test_every_input_counts(name: str) -> None:
    before: Any = getattr(INPUTS, name)
    changed = replace(INPUTS, **{name: (*before, "x") if isinstance(before, tuple) else f"{before}x"})
    assert digest_inputs(changed) != digest_inputs(INPUTS)
    assert (digest_situation(changed) != digest_situation(INPUTS)) is (name != "notes")


def test_repeated_dispatch_after_a_blocker_is_counted() -> None:
    counted = Dispatches()
    assert counted.describe() == ""
    counted.note("a", "1", is_after_block=False)
    counted.note("a", "2", is_after_block=True)
    counted.note("b", "2", is_after_block=True)
    assert (counted.after_blockers, counted.repeated) == (2, 0)
    counted.note("a", "1", is_after_block=True)
    assert counted.repeated == 1
    counted.refuse("a")
    assert counted.describe() == (
        "3 attempts began after a blocker, 1 of them with nothing new; 1 more were refused because nothing was new."
    )


BLOCKED = Record(
    "a", "feat/a", AttemptEnd.BLOCKED, AttemptIdentity(3, 1), rounds=Rounds(2, 1),
    spending=Spending(Spent(turns=5)), unblocking=Unblocking(("x",), 1, "s", "l", "f"),
)  # fmt: skip


def test_person_grants_all_attempts_anew_and_an_answer_only_one() -> None:
    person = BLOCKED.begin_next("n", "run")
    answered = BLOCKED.change(stage=AttemptEnd.ANSWERED).begin_next("n", "run")
    assert (person.attempt.number, person.attempt.allowance) == (4, 4)
    assert (answered.attempt.number, answered.attempt.allowance) == (4, 2)
    assert (person.spending.since_unblocked.turns, answered.spending.since_unblocked.turns) == (0, 5)
    assert (person.unblocking.asked, answered.unblocking.asked) == (0, 1)
    assert person.unblocking.blocker == answered.unblocking.blocker == ()
    assert person.rounds == answered.rounds == Rounds()


def test_record_keeps_the_blocker_that_is_being_handled() -> None:
    blocker = Blocker("No.", BlockerKind.SCOPE, "e", "t", "s", "all", needs_person=True)
    record = BLOCKED.change(unblocking=BLOCKED.unblocking.handle(write_blocker(blocker)))
    read = parse_record(json.loads(json.dumps(describe_record(record))))
    assert read == record
    assert read is not None
    assert read_blocker(read.unblocking.blocker) == blocker
    assert read_blocker(()) is None
