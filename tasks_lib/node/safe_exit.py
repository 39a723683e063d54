"""Decides whether an agent has reported since its turn began that it is blocked; earlier reports do not count."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tasks_lib.git.commits.branch_state import BranchState, read_line
from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.commit_messages import SESSION, find_value
from tasks_lib.git.commits.commit_search import exclude_contained, find_by_text, list_changing
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.inspection.branch_commits import list_committed
from tasks_lib.git.kept.snapshots import KEPT_REFS
from tasks_lib.git.session_record import measure_notices, read_notices
from tasks_lib.model import NoticeLevel, Status
from tasks_lib.naming import flatten
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.branch_inspection import find_work
from tasks_lib.taskfile.parsing import decode, get_section, parse_task

_TRAILERS = (f"{SESSION}: ", "Signed-off-by: ", "Co-authored-by: ")
"""The starts of lines in a commit's message that say nothing about a blocker."""


@dataclass(frozen=True, slots=True)
class TurnStart:
    """The state when a turn began; what the agent reports counts as new only compared with this.

    `own_file` is the content of the node's task file in the worktree, None if there was none; `notices` the size of
    the notices file in bytes; `target` the commit that the agent gets as COORDINATOR_TARGET.
    """

    state: BranchState
    own_file: bytes | None
    notices: int
    target: str

    @property
    def commit(self) -> str:
        return self.state.commit


def record_turn_start(context: AttemptContext, state: BranchState) -> TurnStart:
    """Record the current state; call right before a turn."""
    return TurnStart(
        state, read_own_file(context), measure_notices(context.worktree.git_dir), context.run.git.head.last_seen()
    )


def find_safe_exit(context: AttemptContext, start: TurnStart, after: BranchState) -> str:
    """Return the reason of a Safe Exit since `start`, "" if none: from a notice, a commit, or the task file."""
    return _find_notice(context, start) or _find_commit(context, start, after) or _find_in_file(context, start, after)


def _find_notice(context: AttemptContext, start: TurnStart) -> str:
    git_dir = context.worktree.git_dir
    # A file that has become shorter was replaced, so it is read from its beginning. Older notices are left out because
    # after a kill the same turn number is used again.
    since = start.notices if measure_notices(git_dir) >= start.notices else 0
    for notice in reversed(read_notices(git_dir, since)):
        if notice.turn == context.record.turn.number and notice.level is NoticeLevel.BLOCKING:
            return notice.text
    return ""


# Commits.


@dataclass(frozen=True, slots=True)
class _Origin:
    """A commit's author and author date, its subject, and the session that it names; a rebase keeps all of these."""

    author: str
    subject: str
    session: str


def _find_commit(context: AttemptContext, start: TurnStart, after: BranchState) -> str:
    if after.commit == start.commit:
        return ""
    line = read_line(context.run.git.objects, start.commit, after.commit)
    mark = f"blocked({context.task.id}):"
    said = [pair for pair in zip(line.commits, line.subjects, strict=True) if pair[1].startswith(mark)]
    if not said:
        return ""
    earlier = _list_earlier(context, start, mark)
    written = {_read_origin(context, commit) for commit in earlier}
    committed = list_committed(context.worktree.git_dir)
    for commit, subject in said:
        found = _read_origin(context, commit)
        is_copy = found in written and commit not in committed
        if commit not in earlier and not is_copy and found.session in ("", context.record.attempt.session):
            return _join_body(subject.removeprefix(mark).strip() or "blocked", context, commit)
    return ""


def _join_body(reason: str, context: AttemptContext, commit: str) -> str:
    """Return `reason`, and below it what the commit's message says besides the subject and trailers."""
    _, _, body = read_commit(context.run.git.objects, commit).message.partition("\n")
    lines = (line for line in body.splitlines() if not line.startswith(_TRAILERS))
    said = "\n".join(lines).strip()
    return f"{reason}\n\n{said}" if said else reason


def _list_earlier(context: AttemptContext, start: TurnStart, mark: str) -> set[str]:
    """Return the commits with `mark` that the branch had at the turn's start, that the target has, or that are kept."""
    run = context.run
    tips = {start.commit, start.target, run.git.head.newest_seen(), run.git.head.last_seen_base()}
    kept = [f"{KEPT_REFS}/{flatten(name)}" for name in (context.task.id, context.branch)]
    return find_by_text(run.git.repository.git, mark, tips, [f"refs/remotes/*/{run.project.target}", *kept])


def _read_origin(context: AttemptContext, commit: str) -> _Origin:
    found = read_commit(context.run.git.objects, commit)
    return _Origin(found.author, found.subject, find_value(found.message, SESSION))


# The task file.


@dataclass(frozen=True, slots=True)
class _Version:
    """What one version of the task file says about a block.

    `is_certain` means that the file in the worktree was certainly made from this version.
    """

    is_blocked: bool
    notes: Counter[str]
    is_certain: bool = False


def read_own_file(context: AttemptContext) -> bytes | None:
    """Return the content of the node's task file in the worktree, None if it is not a regular file."""
    file = context.worktree.path / context.task.path
    return None if file.is_symlink() or not file.is_file() else file.read_bytes()


def _find_in_file(context: AttemptContext, start: TurnStart, after: BranchState) -> str:
    """Return the reason for a block from the task file in the worktree, "" unless this turn wrote it.

    The status may come from the target or from an earlier attempt, while the agent changes something else in the file.
    In that case, only a new line of the Notes counts: one that contains "blocked", or any line if the turn has done
    nothing else.
    """
    data = read_own_file(context)
    if data is None or data == start.own_file or parse_status(data, context.task.path) is not Status.BLOCKED:
        return ""
    text = decode(data)
    lines = _list_notes(text)
    versions = list(_list_versions(context, start, after))
    known: Counter[str] = Counter()
    for version in versions:
        known |= version.notes
    fresh = list(_subtract(lines, known))
    is_brought = any(one.is_blocked and (one.is_certain or one.notes <= Counter(lines)) for one in versions)
    speaking = [line for line in fresh if "blocked" in line.casefold()]
    if is_brought and not speaking and (not fresh or _has_new_work(context, start, after)):
        return ""
    said = next(iter([*speaking, *fresh, *(line for line in lines if "blocked" in line.casefold()), *lines]), "")
    return said.strip("-* ").removeprefix("Blocked:").strip() or "the task file says blocked"


def _has_new_work(context: AttemptContext, start: TurnStart, after: BranchState) -> bool:
    """Whether the branch's changes, apart from its own task file, differ from those when the turn began."""
    before, now = (
        {(change.path, change.new) for change in find_work(context, commit) if change.path != context.task.path}
        for commit in (start.commit, after.commit)
    )
    return before != now


def _list_versions(context: AttemptContext, start: TurnStart, after: BranchState) -> Iterator[_Version]:
    """Yield what the worktree's file may be based on: itself before the turn, and the target's versions since."""
    if start.own_file is not None:
        yield _read_version(decode(start.own_file), context.task.path, is_certain=True)
    run, git, path = context.run, context.run.git.repository.git, context.task.path
    head = run.git.head.newest_seen()
    merged = find_merge_base(git, head, after.commit)
    between = list_changing(git, start.target, head, path)
    tips = dict.fromkeys(commit for commit in (merged, start.target, head, run.git.head.last_seen_base()) if commit)
    new = exclude_contained(git, tips, start.commit)
    for commit in dict.fromkeys((*(tip for tip in tips if tip in new), *between)):
        if (text := run.git.reader.text(commit, path)) is not None:
            yield _read_version(text, path, is_certain=commit == merged)


def _read_version(text: str, path: str, *, is_certain: bool) -> _Version:
    data = text.encode("utf-8", "surrogateescape")
    return _Version(parse_status(data, path) is Status.BLOCKED, Counter(_list_notes(text)), is_certain)


def _list_notes(text: str) -> list[str]:
    return [line.strip() for line in (get_section(text, "Notes") or "").splitlines() if line.strip()]


def _subtract(lines: list[str], known: Counter[str]) -> Iterator[str]:
    left = known.copy()
    for line in lines:
        if left[line] > 0:
            left[line] -= 1
        else:
            yield line


def parse_status(data: bytes, path: str) -> Status | None:
    task, _ = parse_task(data, path)
    return task.status if task else None
