"""The project's vocabulary as values: tasks, outcomes and stages of nodes, notices and verdicts of agents."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """The values of `status` in a task file."""

    PENDING = "pending"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    FAILED = "failed"
    BLOCKED = "blocked"


class Scope(StrEnum):
    """How much a task touches; `cost` is taskgraph's relative effort (1 to 5)."""

    SINGLE = "single"
    NARROW = "narrow"
    MODERATE = "moderate"
    BROAD = "broad"
    SYSTEM = "system"

    @property
    def cost(self) -> int:
        return SCOPE_COST[self]


SCOPE_COST: Mapping[Scope, int] = {
    Scope.SINGLE: 1,
    Scope.NARROW: 2,
    Scope.MODERATE: 3,
    Scope.BROAD: 4,
    Scope.SYSTEM: 5,
}
DEFAULT_COST = 2
"""taskgraph's effort for a task file without `scope`."""


class Risk(StrEnum):
    """How likely a task is to go wrong."""

    TRIVIAL = "trivial"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Impact(StrEnum):
    """How far the effects of a failure reach."""

    ISOLATED = "isolated"
    COMPONENT = "component"
    PHASE = "phase"
    PROJECT = "project"


KNOWN_LEVELS = ("planning", "decomposition", "implementation", "review", "research", "architecture")
"""Other values of `level` are allowed, with a warning."""

LEVELS_THAT_ADD_FILES = frozenset({"planning", "decomposition", "architecture"})
"""Only nodes of these levels may add task files."""

REVIEW_LEVEL = "review"
RESEARCH_LEVEL = "research"
RESOLVER = "resolver"
"""The role that is asked about blockers, and its key in `roles`."""
HUMAN = "human"
_MODEL = re.compile(r"[^\s/]+/\S+")
_ROLE = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
MAX_NAME_CHARS = 200
"""Maximum length of the name of a role, a variable or a model."""


def is_model_name(text: str) -> bool:
    """Whether `text` names a language model as `provider/model`; the model's own name may contain more slashes."""
    return bool(_MODEL.fullmatch(text)) and text.isprintable()


def is_role_name(text: str) -> bool:
    """Whether `text` can name a role of an agent."""
    return bool(_ROLE.fullmatch(text)) and len(text) <= MAX_NAME_CHARS


@dataclass(frozen=True, slots=True)
class Task:
    """One task file. `path` is relative to the repository, with `/`; `blob` is the git blob id of its content.

    `lines` maps each front matter key, as spelled in the file, to its line number (from 1); `dependency_lines` does the
    same for each id in `depends_on`. `role` is the agent's, "" for that of the level; `model` is `provider/model`, ""
    for the default. `runs_on` is `local`, `spokes` or the name of a spoke, "" for wherever the configuration
    says. `spawned_by` is the id of the task whose session spawned this one, "" for none. `extra` contains unknown keys.
    """

    id: str
    name: str
    path: str
    blob: str = ""
    status: Status = Status.PENDING
    depends_on: tuple[str, ...] = ()
    scope: Scope | None = None
    risk: Risk | None = None
    impact: Impact | None = None
    level: str | None = None
    priority: str | None = None
    assignee: str | None = None
    tags: tuple[str, ...] = ()
    model: str = ""
    role: str = ""
    runs_on: str = ""
    spawned_by: str = ""
    extra: Mapping[str, object] = field(default_factory=dict[str, object], compare=False)
    lines: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)
    dependency_lines: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)

    @property
    def cost(self) -> int:
        """Relative effort, 1 to 5."""
        return self.scope.cost if self.scope else DEFAULT_COST

    @property
    def is_completed(self) -> bool:
        return self.status is Status.COMPLETED

    @property
    def is_human(self) -> bool:
        return (self.assignee or "").casefold() == HUMAN

    @property
    def is_review(self) -> bool:
        return self.level == REVIEW_LEVEL


# How a node ended. A run makes its decisions from `Outcome`; Prefect's states and the exit code are derived from it.


class OutcomeName(StrEnum):
    """How a node has ended, as views and reports say it: the name of an `Outcome`, or what no run decides.

    `NONE` is a node that has not ended, `LANDED` one that was completed before the run, and `INTERRUPTED` one that was
    running when the run was killed.
    """

    NONE = ""
    MERGED = "Merged"
    CHECKED = "Checked"
    BLOCKED = "Blocked"
    FAILED = "Failed"
    ABORTED = "Aborted"
    SKIPPED = "Skipped"
    WAITING = "Waiting"
    LANDED = "Landed"
    INTERRUPTED = "interrupted"

    @property
    def is_landed(self) -> bool:
        """Whether the node is completed at the head."""
        return self in (OutcomeName.MERGED, OutcomeName.CHECKED, OutcomeName.LANDED)


def parse_outcome(text: object) -> OutcomeName:
    """The outcome that `text` names; `NONE` for anything else."""
    return next((name for name in OutcomeName if name == text), OutcomeName.NONE)


@dataclass(frozen=True, slots=True)
class Merged:
    """The node's work was merged onto the head as `commit`."""

    commit: str
    name: Literal[OutcomeName.MERGED] = OutcomeName.MERGED


@dataclass(frozen=True, slots=True)
class Checked:
    """A review node finished without changes of its own; `commit` records this on the head."""

    commit: str
    name: Literal[OutcomeName.CHECKED] = OutcomeName.CHECKED


class BlockerKind(StrEnum):
    """What a blocked node lacks: knowledge, a narrower task, other work first, something outside, or a decision."""

    CONTEXT = "context"
    SCOPE = "scope"
    DEPENDENCY = "dependency"
    ENVIRONMENT = "environment"
    DECISION = "decision"


@dataclass(frozen=True, slots=True)
class Blocked:
    """The node cannot continue; it runs again once the task `resolve_id` ("" if none) is completed.

    `waits_for` is another task, on which the node depends from now on, "" if none; it is then not blocked at the head.
    """

    reason: str
    resolve_id: str = ""
    name: Literal[OutcomeName.BLOCKED] = OutcomeName.BLOCKED
    kind: BlockerKind | None = field(default=None, compare=False)
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The coordinator's environment failed; the work is kept on the branch, and the next run resumes it."""

    reason: str
    name: Literal[OutcomeName.FAILED] = OutcomeName.FAILED


@dataclass(frozen=True, slots=True)
class Aborted:
    """The user stopped the node; its work is kept."""

    reason: str
    name: Literal[OutcomeName.ABORTED] = OutcomeName.ABORTED


@dataclass(frozen=True, slots=True)
class Skipped:
    """The node never started; `reason` says what it was waiting for."""

    reason: str
    name: Literal[OutcomeName.SKIPPED] = OutcomeName.SKIPPED


@dataclass(frozen=True, slots=True)
class Waiting:
    """The work is on the branch, at the commit `work`, and waits for a person; `reason` says for what.

    With `is_postponed` it waits for the next run instead, because this one may land no more.
    """

    reason: str
    work: str = ""
    is_postponed: bool = False
    name: Literal[OutcomeName.WAITING] = OutcomeName.WAITING


Outcome = Merged | Checked | Blocked | Failed | Aborted | Skipped | Waiting


class Stage(StrEnum):
    """A step in the life of a node, as shown to the user."""

    WORKTREE = "worktree"
    SETUP = "setup"
    SESSION = "session"
    REVIEW = "review"
    QUEUED = "queued"
    VERIFY = "verify"
    GIVEN_BACK = "given back"
    RETRYING = "retrying"
    RESOLVER = "resolver"
    LANDED = "landed"
    ENDED = "ended"


class AttemptEnd(StrEnum):
    """How an attempt ended that did not land its work; the next one is a new attempt."""

    FAILED = "attempt failed"
    BLOCKED = "blocked"
    ANSWERED = "blocked, and answered without a person"


RecordStage = Stage | AttemptEnd
"""What the record of a node says: the stage that its attempt is at, or how its last attempt ended."""


class NoticeLevel(StrEnum):
    """How urgent an agent's notice is: only `blocking` ends an attempt. `limit`: a provider limits requests."""

    INFO = "info"
    WARNING = "warning"
    BLOCKING = "blocking"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Notice:
    """What an agent reported with `coordinator notify`; `turn` is the turn in which it did.

    `until` is when a provider accepts requests again, in seconds since the epoch, 0 if unknown.
    """

    level: NoticeLevel
    text: str
    turn: int = 0
    until: float = 0.0


class NotifyEvent(StrEnum):
    """What a run tells: a node is blocked, something else needs a person, a limit stops the run, the run has ended."""

    BLOCKED = "blocked"
    PERSON = "person"
    LIMIT = "limit"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class PersonsWord:
    """What a person says about a blocked node: `text` for its next agent, and that agent's `role` and `model`.

    Each is "" for none; a role or model that is not named stays as it is.
    """

    text: str = ""
    role: str = ""
    model: str = ""


class Verdict(StrEnum):
    """The last line of a review, after `Verdict: `."""

    APPROVED = "approved"
    APPROVED_WITH_CHANGES = "approved with changes"
    CHANGES_REQUESTED = "changes requested"

    @property
    def is_approval(self) -> bool:
        return self is not Verdict.CHANGES_REQUESTED
