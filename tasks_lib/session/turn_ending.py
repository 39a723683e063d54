"""Decides how a turn ended from git, the exit status and the agent's notices, not from the conversation."""

import re
from dataclasses import dataclass, replace

from tasks_lib.model import Verdict
from tasks_lib.text import tell_rest

_VERDICT = re.compile(r"^\W*verdict\W*:\W*(approved with changes|approved|changes requested)\W*$", re.IGNORECASE)
MAX_PATHS_SAID = 10
_LOOPED = (
    "Your last turn was stopped: {loop}.\n"
    "Doing the same again will not change that. Look at what the last result says, and take another way. If there is "
    "none, do a Safe Exit as described in the task's instructions."
)
_STALLED = (
    "Your last turn was stopped: {stall}.\n"
    "Nobody can type into a terminal here. Start programs so that they ask nothing and open neither a pager nor an "
    "editor, and give commands that may hang a time limit. Then continue with your task where you left off. If you "
    "cannot, do a Safe Exit as described in the task's instructions."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the commits of a branch that must not land: what and where in one line, and what to do about it.

    With `is_said_once` it may be intentional: it is reported to the session once, which may then leave it as it is.
    """

    text: str
    advice: str
    is_said_once: bool = False


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """What is known when a turn is over; texts are "" for none.

    `commit` is the branch's current head. `has_work`: the branch changes something besides its own task file, or
    completes that file. `dirty` are uncommitted paths. `said_blocked` is the reason for a Safe Exit in this turn.
    `refused` is the commit that was returned to the session. `excess` says which budget ended the turn. `is_review`
    marks a reviewer's session, whose `answer` has to end in a verdict. `stall` says that nothing happened any more, and
    what the turn was waiting for, `loop` that the agent only repeated itself. `findings` are what must not land,
    without those that were reported once and may stay. `denied` are uses of tools that the agent's own permissions
    refused.
    """

    status: int
    answer: str
    commit: str
    has_work: bool
    dirty: tuple[str, ...] = ()
    said_blocked: str = ""
    is_timed_out: bool = False
    error: str = ""
    refused: str = ""
    excess: str = ""
    is_review: bool = False
    stall: str = ""
    loop: str = ""
    findings: tuple[Finding, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The work is committed and ready for review and the merge queue; `verdict` is a reviewer's."""

    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class SafeExit:
    """The agent stopped and said why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The turn ended without an error, but the work is not finished; `nudge` is the prompt of the next turn.

    `said_once` are findings that are not reported again.
    """

    reason: str
    nudge: str
    said_once: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """This attempt failed; another one may succeed."""

    reason: str


TurnEnding = Done | SafeExit | Unfinished | AttemptFailed


def decide_turn(facts: TurnFacts) -> TurnEnding:
    """Say how the turn ended. Safe Exit is checked first, because an agent may use any exit status for it."""
    if facts.said_blocked:
        return SafeExit(facts.said_blocked)
    if facts.excess:
        return AttemptFailed(f"the turn was stopped: {facts.excess}")
    if facts.is_timed_out:
        return AttemptFailed("the turn took longer than watch.turn_seconds and was stopped")
    if facts.stall:
        return Unfinished(f"the turn was stopped: {facts.stall}", _STALLED.format(stall=facts.stall))
    if facts.loop:
        return Unfinished(f"the turn was stopped: {facts.loop}", _LOOPED.format(loop=facts.loop))
    if facts.status != 0:
        return AttemptFailed(facts.error or f"the agent exited with {_describe_status(facts.status)}")
    if facts.is_review:
        return _decide_review(facts)
    ending = _decide_work(facts)
    return _name_denied(ending, facts.denied) if isinstance(ending, Unfinished) and facts.denied else ending


def _name_denied(ending: Unfinished, denied: tuple[str, ...]) -> Unfinished:
    """Add what the agent was not permitted to use, which is most likely why its work is not finished."""
    said = "; ".join(denied)
    return replace(
        ending,
        reason=f"{ending.reason}; its permissions refused {said}",
        nudge=f"{ending.nudge}\nYour permissions refused this: {said}. Take another way, or do a Safe Exit.",
    )


def _decide_review(facts: TurnFacts) -> TurnEnding:
    verdict = find_verdict(facts.answer)
    if verdict is None:
        return Unfinished(
            "the review ended without a verdict",
            "Your review has no verdict. End it with one line, exactly one of:\n"
            "Verdict: approved\nVerdict: approved with changes\nVerdict: changes requested",
        )
    if facts.dirty:
        return _uncommitted(facts)
    return _describe_findings(facts) if facts.findings else Done(verdict)


def _decide_work(facts: TurnFacts) -> TurnEnding:
    if facts.dirty:
        return _uncommitted(facts)
    if facts.findings:
        return _describe_findings(facts)
    if not facts.has_work:
        return Unfinished(
            "the turn ended without a commit",
            "Nothing is committed on your branch. Complete the task and commit it. If you cannot, do a Safe Exit as "
            "described in the task's instructions.",
        )
    if facts.commit == facts.refused:
        return Unfinished(
            "the work was returned to its session, and the turn ended without a new commit",
            "Your work was returned to you, but your branch has no new commit. Fix the reported problem and commit the "
            "fix. If you cannot, do a Safe Exit as described in the task's instructions.",
        )
    return Done()


def _describe_findings(facts: TurnFacts) -> Unfinished:
    said = "\n".join(f"- {finding.text}. {finding.advice}" for finding in facts.findings)
    return Unfinished(
        "; ".join(finding.text for finding in facts.findings),
        f"Your commits cannot be merged as they are:\n{said}",
        tuple(finding.text for finding in facts.findings if finding.is_said_once),
    )


def _uncommitted(facts: TurnFacts) -> Unfinished:
    paths = "\n".join(facts.dirty[:MAX_PATHS_SAID])
    more = tell_rest(len(facts.dirty), MAX_PATHS_SAID, "\n… and ")
    return Unfinished(
        f"{len(facts.dirty)} paths are not committed ({', '.join(facts.dirty[:3])})",
        f"These paths in your worktree are not committed:\n{paths}{more}\n"
        "Commit what belongs to the task, and remove or ignore the rest.",
    )


def _describe_status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def find_verdict(answer: str) -> Verdict | None:
    """The verdict on the last non-blank line of `answer`, or None."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    found = _VERDICT.match(lines[-1]) if lines else None
    return Verdict(found.group(1).lower()) if found else None
