"""Which processes belong to a session, decided from process tables."""

import os

from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.process.process_table import MARKER, Claim, GroupId, Row, read_portable, read_proc, select

OWN_PID = 2
OURS = "ours"


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    count = draw(st.integers(2, 14))
    rows = [Row(1, 0, 1, 1, 0.0, False, "")]
    for pid in range(2, count + 1):
        parent = draw(st.integers(1, pid - 1))
        group = draw(st.sampled_from([pid, rows[parent - 1].group]))
        session = draw(st.sampled_from([group, rows[parent - 1].session]))
        started = draw(st.sampled_from([100.0, 200.0]))
        rows.append(
            Row(pid, parent, group, session, started, draw(st.booleans()), draw(st.sampled_from(["", OURS, "theirs"])))
        )
    return [row for row in rows if row.pid <= 2 or draw(st.booleans())]


claims = st.builds(
    Claim,
    st.lists(st.builds(GroupId, st.integers(-1, 14), st.just(100.0)), max_size=3).map(tuple),
    st.sampled_from(["", OURS]),
    st.booleans(),
)


@given(tables(), claims)
def test_neither_ourselves_nor_what_we_descend_from_is_ever_found(rows: list[Row], claim: Claim) -> None:
    found = {row.pid for row in select(rows, claim, OWN_PID)}
    assert not found & {OWN_PID, 1}


@given(tables(), claims)
def test_zombies_are_never_found(rows: list[Row], claim: Claim) -> None:
    assert not any(row.is_zombie for row in select(rows, claim, OWN_PID))


@given(tables(), claims)
def test_all_that_carries_the_marker_is_found(rows: list[Row], claim: Claim) -> None:
    marked = {row.pid for row in rows if claim.marker and row.marker == claim.marker and not row.is_zombie}
    assert marked - {OWN_PID, 1} <= {row.pid for row in select(rows, claim, OWN_PID)}


@given(tables(), claims)
def test_nothing_is_found_without_a_marked_process_or_a_leader_that_started_when_recorded(
    rows: list[Row], claim: Claim
) -> None:
    is_marked = claim.marker and any(row.marker == claim.marker for row in rows)
    is_led = any(row.pid == group.pid and row.started == group.started for row in rows for group in claim.groups)
    if not is_marked and not is_led and not claim.is_watched:
        assert select(rows, claim, OWN_PID) == []


@given(tables())
def test_a_group_whose_number_was_given_to_somebody_else_is_not_ours(rows: list[Row]) -> None:
    for row in rows:
        claim = Claim((GroupId(row.pid, row.started - 50),), "", is_watched=True)
        assert select(rows, claim, OWN_PID) == []


def test_both_ways_of_reading_the_table_see_this_process_alike() -> None:
    [proc] = [row for row in read_proc() if row.pid == os.getpid()]
    [portable] = [row for row in read_portable() if row.pid == os.getpid()]
    assert abs(proc.started - portable.started) < 1.5
    assert (proc.pid, proc.parent, proc.group, proc.session) == (os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0))
    assert (portable.parent, portable.group, portable.session) == (proc.parent, proc.group, proc.session)
    assert proc.marker == portable.marker == os.environ.get(MARKER, "")
