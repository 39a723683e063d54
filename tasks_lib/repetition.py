"""Decides when an agent repeats itself: the same calls with the same results, or the same error, or the same output.

A repeated call may be right, as when a file is read again after an edit, so only long runs of them count, and a call
that takes long by itself is a wait, which other limits bound.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

MAX_SAME_RESULTS = 12
"""How many results in a row may be repetitions while the worktree stays as it is."""
EARLY_RESULTS = 6
"""After how many repetitions the worktree is looked at for the first time, to compare it later."""
MAX_SAME_ERRORS = 6
"""How many calls in a row may fail with the same error."""
WAIT_SECONDS = 20.0
"""A call that takes this long waits for something, and costs hardly anything."""
MIN_SAME_LINES = 20
"""How many repeated lines make a program's output a repetition."""
_REMEMBERED = 32
_REMEMBERED_LINES = 2000
_SAID = 200


@dataclass(frozen=True, slots=True)
class Repeats:
    """How the tool calls of one session repeat: `ended` calls so far, identified by `calls` (the last of them).

    `stale` of them, the last ones, returned nothing that was not returned shortly before. `errors` of them, the last
    ones, failed with `error`. `last` names the last call.
    """

    ended: int = 0
    stale: int = 0
    errors: int = 0
    error: str = ""
    last: str = ""
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


NONE = Repeats()


def note_call(repeats: Repeats, call: str, name: str, digest: str, error: str, seconds: float) -> Repeats:
    """The repeats once the call with the id `call` ended, after `seconds`; `digest` is of its input and result.

    `name` names it for a reader, `error` is "" if it succeeded. A call that is reported twice counts once.
    """
    if call in repeats.calls:
        return repeats
    is_stale = digest in repeats.results and seconds < WAIT_SECONDS
    same = fold_error(error)
    return Repeats(
        repeats.ended + 1,
        repeats.stale + 1 if is_stale else 0,
        0 if not same else repeats.errors + 1 if same == repeats.error else 1,
        same,
        name,
        (*repeats.calls, call)[-_REMEMBERED:],
        (*(one for one in repeats.results if one != digest), digest)[-_REMEMBERED:],
    )


def fold_error(error: str) -> str:
    """An error in one line, without what differs between two reports of the same one."""
    return re.sub(r"\d+", "#", " ".join(error.split()))[:_SAID]


@dataclass(frozen=True, slots=True)
class WorkSeen:
    """The worktree's content when it was last looked at, after `ended` calls; it was the same after `since` of them.

    It changed during the first `excused` calls, whose repetitions do not count.
    """

    since: int = 0
    ended: int = 0
    work: str = ""
    excused: int = 0


NOT_SEEN = WorkSeen(since=-1, ended=-1)


def count_stale(repeats: Repeats, seen: WorkSeen) -> int:
    """How many results in a row were repetitions, without those before the worktree changed."""
    return min(repeats.stale, repeats.ended - max(seen.excused, 0))


def needs_look(repeats: Repeats, seen: WorkSeen) -> bool:
    """Whether the worktree has to be looked at to judge the repetitions."""
    stale = count_stale(repeats, seen)
    if stale >= MAX_SAME_RESULTS:
        return seen.ended < repeats.ended
    return stale >= EARLY_RESULTS and seen.since <= repeats.ended - stale


def note_work(repeats: Repeats, seen: WorkSeen, work: str) -> WorkSeen:
    """What was seen of the worktree, once its content was found to be `work`."""
    stale = count_stale(repeats, seen)
    if stale and seen.since > repeats.ended - stale:
        if seen.work == work:
            return replace(seen, ended=repeats.ended)
        return WorkSeen(repeats.ended, repeats.ended, work, repeats.ended)
    return WorkSeen(repeats.ended, repeats.ended, work, seen.excused)


def find_loop(repeats: Repeats, seen: WorkSeen) -> str:
    """Say in one clause why a session that repeats itself is stopped; "" if it may continue."""
    if repeats.errors >= MAX_SAME_ERRORS:
        return f"{repeats.errors} tool calls in a row failed with the same error: {repeats.error}"
    stale = count_stale(repeats, seen)
    if stale >= MAX_SAME_RESULTS and seen.ended == repeats.ended > seen.since:
        return (
            f"the agent made the same calls again and again, with the same results ({stale} in a row; the last was "
            f"{repeats.last}), and nothing in the worktree changed"
        )
    return ""


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a program's turn: when the last new line came, and how many repeated ones came since.

    Lines are compared exactly, so that a counter or a time in them makes them new. `work` is the worktree's content
    when it was looked at during the repetition, None before that.
    """

    new_at: float
    repeated: int = 0
    known: frozenset[str] = frozenset()
    work: str | None = None


def note_lines(output: Output, lines: Iterable[str], at: float) -> Output:
    """The output after `lines`, which came before `at`; too many known lines are forgotten, which makes them new."""
    known, repeated, has_new = set(output.known), output.repeated, False
    for line in (line.strip() for line in lines if line.strip()):
        digest = hashlib.sha256(line.encode("utf-8", "replace")).hexdigest()[:16]
        has_new = has_new or digest not in known
        known.add(digest)
        repeated += 1
    if not has_new:
        return replace(output, repeated=repeated)
    return Output(at, 0, frozenset(known) if len(known) <= _REMEMBERED_LINES else frozenset())


def is_due(output: Output, at: float, seconds: float) -> bool:
    """Whether the worktree has to be looked at: half-way to the allowed `seconds`, and at their end."""
    if output.repeated < MIN_SAME_LINES:
        return False
    return at >= output.new_at + (seconds if output.work is not None else seconds / 2)


def judge_output(output: Output, work: str, at: float, seconds: float) -> tuple[Output, str]:
    """The output once the worktree's content was found to be `work`, and why the turn is stopped, "" if it is not."""
    if output.work is None:
        return replace(output, work=work), ""
    if output.work != work:
        return replace(output, new_at=at, repeated=0, work=None), ""
    said = (
        f"for {at - output.new_at:.0f} seconds the output repeated earlier lines ({output.repeated} of them), and "
        "nothing in the worktree changed"
    )
    return output, said if at >= output.new_at + seconds else ""
