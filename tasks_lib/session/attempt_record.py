"""What a rerun has to know of a node that has not landed, and how each step of an attempt changes it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks_lib.model import AttemptEnd, RecordStage, Stage, Verdict
from tasks_lib.session.spending import NOTHING, Spent


@dataclass(frozen=True, slots=True)
class AttemptIdentity:
    """Which attempt it is, and where it began; commits are full ids, "" for none.

    `allowance` is the attempt from which `retry.attempts` is counted, `slot` the number of the worktree. `base` is the
    head when the branch was made or the attempt began, `fork` the commit of the head that the branch began at.
    """

    number: int = 1
    allowance: int = 1
    session: str = ""
    run: str = ""
    slot: int = 0
    base: str = ""
    fork: str = ""

    def with_session(self, session: str) -> "AttemptIdentity":
        return replace(self, session=session)

    def with_slot(self, slot: int) -> "AttemptIdentity":
        return replace(self, slot=slot)

    def with_fork(self, commit: str) -> "AttemptIdentity":
        return replace(self, fork=commit)

    def start_at(self, commit: str) -> "AttemptIdentity":
        """The branch has no work of its own before `commit`."""
        return replace(self, base=commit, fork=commit if commit != self.base else self.fork)


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """The last turn of the attempt, and what is to be part of the next prompt.

    `start` is the branch's commit when the turn began. `conversation` is the backend's name of the session's
    conversation, `messages` are the user's. `pid_started` is the start of the process `pid` in seconds since the epoch,
    so that a reused pid is not taken for it.
    """

    number: int = 0
    start: str = ""
    conversation: str = ""
    messages: tuple[str, ...] = ()
    pid: int = 0
    pid_started: float = 0.0

    def begin(self, start: str) -> "TurnRecord":
        """The next turn begins with the branch at `start`."""
        return replace(self, number=self.number + 1, start=start)

    def add_message(self, text: str) -> "TurnRecord":
        return replace(self, messages=(*self.messages, text))

    def without_messages(self) -> "TurnRecord":
        return replace(self, messages=())

    def with_conversation(self, conversation: str) -> "TurnRecord":
        return replace(self, conversation=conversation)

    def with_process(self, pid: int, started: float) -> "TurnRecord":
        return replace(self, pid=pid, pid_started=started)

    def restart(self) -> "TurnRecord":
        """Turns are counted anew, in a new conversation."""
        return replace(self, number=0, conversation="")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What was accepted of the work: commits are full ids, "" for none.

    `finished` is accepted for landing, `reviewed` was approved, `refused` was given back. `answer` and `verdict` are
    what the agent said of the finished work. `offered` was verified and shown to a person, who let `permitted` land.
    """

    finished: str = ""
    reviewed: str = ""
    refused: str = ""
    answer: str = ""
    verdict: str = ""
    offered: str = ""
    permitted: str = ""

    @property
    def is_permitted(self) -> bool:
        """Whether a person has let the finished work land."""
        return bool(self.finished) and self.permitted == self.finished

    def offer(self, commit: str) -> "Acceptance":
        return replace(self, offered=commit)

    def permit(self, commit: str) -> "Acceptance":
        """A person lets the finished `commit` land."""
        return replace(self, finished=commit, permitted=commit)

    def accept(self, commit: str, answer: str, verdict: Verdict | None) -> "Acceptance":
        return replace(self, finished=commit, answer=answer, verdict=str(verdict or ""))

    def approve(self, commit: str) -> "Acceptance":
        return replace(self, reviewed=commit)

    def refuse(self) -> "Acceptance":
        """The finished work is given back."""
        return replace(self, refused=self.finished, finished="")


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often the work was given back: by the merge queue (`landing`), and by a reviewer (`review`).

    `requested` are the findings of the last review that the next one has to look at.
    """

    landing: int = 0
    review: int = 0
    requested: tuple[str, ...] = ()

    def add(self, *, is_review: bool) -> "Rounds":
        return replace(self, landing=self.landing + (not is_review), review=self.review + is_review)

    def with_requested(self, findings: tuple[str, ...]) -> "Rounds":
        return replace(self, requested=findings)


@dataclass(frozen=True, slots=True)
class Spending:
    """What all attempts of the node have used, and what this one has.

    `forgiven` is what the node, with what its sessions have spawned, had used when it was last unblocked.
    """

    node: Spent = NOTHING
    attempt: Spent = NOTHING
    forgiven: Spent = NOTHING

    @property
    def since_unblocked(self) -> Spent:
        """What `budget.node` limits, with what the node has spawned; that may make up for less than nothing."""
        return self.node - self.forgiven

    def add(self, spent: Spent) -> "Spending":
        return replace(self, node=self.node + spent, attempt=self.attempt + spent)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found in the worktree and must not be reported again.

    `cautions` are findings that the session was told and may ignore, `protected` the files that the user was asked to
    allow, `prepared` what `setup` left uncommitted: a mark of the content, and the path.
    """

    cautions: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()

    def add_cautions(self, cautions: tuple[str, ...]) -> "Findings":
        return replace(self, cautions=(*self.cautions, *cautions))

    def with_protected(self, paths: tuple[str, ...]) -> "Findings":
        return replace(self, protected=paths)

    def with_prepared(self, marks: tuple[str, ...]) -> "Findings":
        return replace(self, prepared=marks)


@dataclass(frozen=True, slots=True)
class Unblocking:
    """What is known of the node's blockers; texts are "" for none.

    `blocker` is the one that is being handled, as written by `write_blocker`. `asked` is how many resolver turns there
    were since a person last unblocked the node. `situation` is that of the last blocker, `left` the fingerprint of what
    an attempt would depend on right after it, and `fingerprint` that of the attempt that began last.
    """

    blocker: tuple[str, ...] = ()
    asked: int = 0
    situation: str = ""
    left: str = ""
    fingerprint: str = ""

    def handle(self, blocker: tuple[str, ...]) -> "Unblocking":
        return replace(self, blocker=blocker)

    def end_turn(self) -> "Unblocking":
        """A resolver turn has ended, with an answer or not."""
        return replace(self, asked=self.asked + 1)

    def leave(self, situation: str, left: str) -> "Unblocking":
        """The blocker has been handled."""
        return replace(self, blocker=(), situation=situation, left=left)

    def begin(self, fingerprint: str) -> "Unblocking":
        return replace(self, fingerprint=fingerprint)


MAX_CONFLICTS = 10
"""How many commits that were given back for a conflict a record keeps, the newest ones."""


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Conflicts whose resolution has not been checked yet: the branch's `commits` before it, full ids.

    `rounds` is how often the session was told that it dropped changes; `allowed` identifies the dropped changes that a
    person was asked to allow.
    """

    commits: tuple[str, ...] = ()
    rounds: int = 0
    allowed: tuple[str, ...] = ()

    def give_back(self, commits: tuple[str, ...], *, is_about_drops: bool) -> "Conflicts":
        kept = tuple(dict.fromkeys((*self.commits, *commits)))[-MAX_CONFLICTS:]
        return replace(self, commits=kept, rounds=self.rounds + is_about_drops)

    def settle(self) -> "Conflicts":
        """The resolution dropped nothing that was not allowed."""
        return replace(self, commits=(), rounds=0)

    def ask(self, identities: tuple[str, ...]) -> "Conflicts":
        """A person is asked to allow these, or is told that they dropped them and decides by landing again."""
        return replace(self, rounds=0, allowed=tuple(dict.fromkeys((*self.allowed, *identities))))


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The coming conflicts that the node's session was `told` of: the other node and the paths, a line each.

    `held` are warnings that are to be part of the next prompt.
    """

    told: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    def find_new(self, other: str, paths: Sequence[str]) -> tuple[str, ...]:
        """The `paths` of which the session was not told yet, for a conflict with the node `other`."""
        known = {path for line in self.told for path in line.split("\n")[1:] if line.split("\n")[0] == other}
        return tuple(path for path in paths if path not in known)

    def tell(self, other: str, paths: Sequence[str]) -> "Foreseen":
        return replace(self, told=(*self.told, "\n".join((other, *paths))))

    def hold(self, text: str) -> "Foreseen":
        return replace(self, held=(*self.held, text))

    def without_held(self) -> "Foreseen":
        return replace(self, held=())


@dataclass(frozen=True, slots=True)
class Taken:
    """Who works on a person's task, as git names them, and since when, ISO 8601 in UTC; "" for nobody."""

    by: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a node that has not landed.

    `stage` is None before its first stage. `notes` are those of all attempts, oldest first. `updated` is ISO 8601 in
    UTC.
    """

    task_id: str
    branch: str
    stage: RecordStage | None = None
    attempt: AttemptIdentity = AttemptIdentity()
    turn: TurnRecord = TurnRecord()
    acceptance: Acceptance = Acceptance()
    rounds: Rounds = Rounds()
    spending: Spending = Spending()
    findings: Findings = Findings()
    notes: tuple[str, ...] = ()
    updated: str = ""
    unblocking: Unblocking = Unblocking()
    conflicts: Conflicts = Conflicts()
    foreseen: Foreseen = Foreseen()
    taken: Taken = Taken()

    def change(
        self,
        *,
        stage: RecordStage | None = None,
        attempt: AttemptIdentity | None = None,
        turn: TurnRecord | None = None,
        acceptance: Acceptance | None = None,
        rounds: Rounds | None = None,
        spending: Spending | None = None,
        findings: Findings | None = None,
        notes: tuple[str, ...] | None = None,
        updated: str | None = None,
        unblocking: Unblocking | None = None,
        conflicts: Conflicts | None = None,
        foreseen: Foreseen | None = None,
    ) -> "Record":
        """The record with the parts that are given; unlike `replace`, a type checker knows them."""
        return Record(
            self.task_id,
            self.branch,
            stage or self.stage,
            attempt or self.attempt,
            turn or self.turn,
            acceptance or self.acceptance,
            rounds or self.rounds,
            spending or self.spending,
            findings or self.findings,
            self.notes if notes is None else notes,
            self.updated if updated is None else updated,
            unblocking or self.unblocking,
            conflicts or self.conflicts,
            foreseen or self.foreseen,
            self.taken,
        )

    def begin_next(self, session: str, run: str, spawned: Spent = NOTHING) -> "Record":
        """The record of the attempt after one that failed or was blocked; `spawned` is what was spawned has used.

        Attempts are counted anew if a person unblocked the node. If it was answered without one, there is one attempt
        more, and what was spent still counts.
        """
        number = self.attempt.number + 1
        attempt = replace(self.attempt, number=number, session=session, run=run)
        following = self.change(
            attempt=attempt,
            turn=self.turn.restart(),
            acceptance=replace(self.acceptance, finished=""),
            spending=replace(self.spending, attempt=NOTHING),
        )
        if self.stage is AttemptEnd.ANSWERED:
            return following.change(
                attempt=replace(attempt, allowance=attempt.allowance + 1),
                acceptance=replace(self.acceptance, finished="", reviewed="", refused=""),
                rounds=Rounds(),
                unblocking=replace(self.unblocking, blocker=()),
                conflicts=replace(self.conflicts, rounds=0),
            )
        if self.stage is not AttemptEnd.BLOCKED:
            return following
        return following.change(
            unblocking=replace(self.unblocking, blocker=(), asked=0, situation=""),
            attempt=replace(attempt, allowance=number),
            acceptance=replace(self.acceptance, finished="", reviewed="", refused=""),
            rounds=Rounds(),
            conflicts=replace(self.conflicts, rounds=0),
            spending=replace(following.spending, forgiven=self.spending.node + spawned),
        )

    def resume(self, run: str) -> "Record":
        """The record of the same attempt in another run; a turn that had not ended is taken again."""
        number = max(0, self.turn.number - (self.stage is Stage.SESSION))
        return self.change(attempt=replace(self.attempt, run=run), turn=replace(self.turn, number=number))
