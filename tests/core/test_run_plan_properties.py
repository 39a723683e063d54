"""Property tests of the run plan: nodes end in any way, people and agents edit the head, graphs are read late."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_lib.graph.run_plan import Changes, Plan
from tasks_lib.graph.task_graph import Graph, build_graph
from tasks_lib.model import Aborted, Blocked, Failed, Merged, Outcome, Scope, Status, Task
from tasks_lib.naming import is_resolve_task, name_resolve_task

EDITS = 12
"""How many things people do in one run; after that only sessions continue, so that the run has to end."""


class Thorough(Plan):
    """A plan that checks every node after every step, instead of only those that a change may affect."""

    def _update_ready(self, task_ids: Iterable[str]) -> None:
        super()._update_ready({*task_ids, *self._graph.tasks})

    def update(self, graph: Graph) -> Changes:
        before = self._graph
        blocked = {i for i, task in before.tasks.items() if self._is_blocked(task, before)}
        changes = super().update(graph)
        unblocked = (i for i in graph.order() if i in blocked and not self._is_blocked(graph.tasks[i], graph))
        assert changes.unblocked == tuple(unblocked)
        return changes


class Twins(Plan):
    """A plan whose graphs reuse the previous one, compared with a thorough one whose graphs are built from scratch."""

    def __init__(self, graph: Graph, only: Collection[str] = ()) -> None:
        super().__init__(graph, only)
        self.other = Thorough(graph, only)

    def ready(self) -> tuple[str, ...]:
        found = super().ready()
        assert found == self.other.ready()
        assert [self.priority(i) for i in found] == [self.other.priority(i) for i in found]
        return found

    def start(self, task_id: str) -> None:
        super().start(task_id)
        self.other.start(task_id)

    def finish(self, task_id: str, outcome: Outcome) -> None:
        super().finish(task_id, outcome)
        self.other.finish(task_id, outcome)

    def update(self, graph: Graph) -> Changes:
        changes = super().update(build_graph(graph.tasks.values(), like=self.graph))
        assert changes == self.other.update(graph)
        assert self.graph == graph
        assert self.waits() == self.other.waits()
        return changes


class SimulatedHead:
    """A head whose tasks sessions and people change; with `has_trouble`, some are for people, blocked or completed."""

    def __init__(self, choice: Random, *, has_trouble: bool) -> None:
        self.choice = choice
        self.has_trouble = has_trouble
        self.commits = 0
        self.tasks: dict[str, Task] = {}
        for number in range(choice.randint(1, 9)):
            self.add_task(f"n{number}")

    def read(self) -> Graph:
        return build_graph(self.tasks.values())

    def commit(self, task: Task) -> None:
        self.commits += 1
        self.tasks[task.id] = replace(task, blob=str(self.commits))

    def add_task(self, task_id: str) -> None:
        status = self.choice.choice([*Status, *[Status.PENDING] * 8]) if self.has_trouble else Status.PENDING
        above = self.choice.sample(sorted(self.tasks), self.choice.randint(0, min(3, len(self.tasks))))
        is_human = self.has_trouble and self.choice.random() < 0.1
        scope = self.choice.choice([*Scope, None])
        assignee = "human" if is_human else None
        self.commit(Task(task_id, task_id, task_id, "", status, tuple(above), scope, assignee=assignee))

    def is_open(self, task_id: str) -> bool:
        return not self.tasks[task_id].is_completed and all(
            self.tasks[i].is_completed for i in self.tasks[task_id].depends_on
        )


class People:
    """The people who edit the head of `run`: they complete, unblock, reopen and add tasks, `edits_left` more times."""

    def __init__(self, run: "SimulatedRun", edits_left: int) -> None:
        self.run = run
        self.edits_left = edits_left

    def edit_head(self) -> None:
        """One thing that a person does: completes their node, unblocks a node, adds a task or a dependency."""
        run, head, choice = self.run, self.run.head, self.run.choice
        self.edits_left -= 1
        theirs = [i for i, task in head.tasks.items() if task.is_human and head.is_open(i)]
        blocked = [i for i, task in head.tasks.items() if task.status is Status.BLOCKED]
        landed = [i for i, task in head.tasks.items() if task.is_completed and i not in run.plan.running]
        match choice.randrange(5):
            case 0 if theirs:
                run.complete(choice.choice(theirs))
            case 1 if blocked:
                chosen = head.tasks[choice.choice(blocked)]
                above = tuple(i for i in chosen.depends_on if not is_resolve_task(i) or choice.random() < 0.5)
                head.commit(replace(chosen, status=Status.PENDING, depends_on=above))
                run.news.add(chosen.id)
            case 2:
                head.add_task(f"late{self.edits_left}")
            case 3 if landed:
                taken = choice.choice(landed)
                head.commit(replace(head.tasks[taken], status=Status.PENDING))
            case _:
                self.add_prerequisite()

    def add_prerequisite(self) -> None:
        head = self.run.head
        head.commit(Task(f"first{self.edits_left}", "first", "first"))
        chosen = head.tasks[self.run.choice.choice(sorted(head.tasks)[:-1] or sorted(head.tasks))]
        if chosen.depends_on and not chosen.is_completed:
            head.commit(replace(chosen, depends_on=(*chosen.depends_on, f"first{self.edits_left}")))
            # While the file still says that the node is blocked, nobody has asked for it to run.
            self.run.news.update({chosen.id} if chosen.status is not Status.BLOCKED else ())


class SimulatedRun:
    """A plan that reads a head occasionally, while sessions and people change the head; checked at every start.

    `news` are the nodes that may start once more, because something they depend on is new.
    """

    def __init__(self, choice: Random, *, has_trouble: bool) -> None:
        self.choice = choice
        self.head = SimulatedHead(choice, has_trouble=has_trouble)
        tasks = self.head.tasks
        only = [i for i in tasks if choice.random() < 0.7] if has_trouble and choice.random() < 0.3 else []
        self.plan = Twins(self.head.read(), only)
        self.only = set(only)
        self.news: set[str] = set()
        self.people = People(self, EDITS if has_trouble else 0)

    def complete(self, task_id: str) -> None:
        self.head.commit(replace(self.head.tasks[task_id], status=Status.COMPLETED))
        # A task that was reopened and landed again between two reads is not new: the plan sees graphs, not history.
        if self.is_news(task_id):
            self.news.update(i for i, task in self.head.tasks.items() if task_id in task.depends_on)

    def is_news(self, task_id: str) -> bool:
        """Whether this is a resolve task that has landed since the plan last read the head."""
        read = self.plan.graph.tasks.get(task_id)
        return is_resolve_task(task_id) and self.head.tasks[task_id].is_completed and not (read and read.is_completed)

    def start_first(self) -> None:
        ready = self.plan.ready()
        keys = [(-self.plan.priority(i), -len(self.plan.graph.dependents(i)), i) for i in ready]
        assert keys == sorted(keys)
        task = self.plan.graph.tasks[ready[0]]
        assert all(self.plan.graph.tasks[i].is_completed for i in task.depends_on)
        assert not task.is_human
        assert task.id not in self.plan.running
        assert not self.only or task.id in self.only
        may_start = task.status in {Status.PENDING, Status.IN_PROGRESS}
        assert may_start or (task.status is Status.BLOCKED and any(map(is_resolve_task, task.depends_on)))
        if task.id in self.plan.outcomes:
            assert isinstance(self.plan.outcomes[task.id], Blocked)
            assert task.id in self.news
        self.plan.start(task.id)

    def finish_one(self) -> None:
        task_id = self.choice.choice(sorted(self.plan.running))
        kind = self.choice.randrange(8) if self.head.has_trouble else 7
        outcome: Outcome = Failed("broke") if kind == 0 else Aborted("by hand") if kind == 1 else Merged("c")
        if kind in {2, 3}:
            outcome = self.block(task_id, has_resolve=kind == 2)
        elif isinstance(outcome, Merged):
            self.complete(task_id)
        if self.choice.random() < 0.5:
            self.plan.update(self.head.read())
        if not any(map(self.is_news, self.head.tasks[task_id].depends_on)):
            self.news.discard(task_id)
        self.plan.finish(task_id, outcome)

    def block(self, task_id: str, *, has_resolve: bool) -> Blocked:
        task = self.head.tasks[task_id]
        if not has_resolve or is_resolve_task(task_id):
            self.head.commit(replace(task, status=Status.BLOCKED))
            return Blocked("stuck")
        resolve_id = name_resolve_task(task_id, self.head.tasks)
        self.head.commit(Task(resolve_id, "r", "r", assignee="human" if self.choice.random() < 0.6 else None))
        self.head.commit(replace(task, status=Status.BLOCKED, depends_on=(*task.depends_on, resolve_id)))
        return Blocked("stuck", resolve_id)

    def step(self) -> bool:
        """Do one of the possible things; return False when the run is over."""
        ready, running = bool(self.plan.ready()), bool(self.plan.running)
        if self.people.edits_left and self.choice.random() < 0.3:
            self.people.edit_head()
        elif ready and (not running or self.choice.random() < 0.5):
            self.start_first()
        elif running:
            self.finish_one()
        else:
            before = self.plan.graph
            self.plan.update(self.head.read())
            return self.plan.ready() != () or self.plan.graph != before
        if self.choice.random() < 0.4:
            self.plan.update(self.head.read())
        return True

    def work(self) -> None:
        steps = 0
        while self.step():
            steps += 1
            # Each node starts once, and once more for each new thing: people's edits and agents' resolve tasks.
            assert steps < 2000
        assert (self.plan.running, self.plan.ready()) == (frozenset(), ())


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_node_starts_correctly_and_is_accounted_for(choice: Random) -> None:
    run = SimulatedRun(choice, has_trouble=True)
    run.work()
    plan, tasks = run.plan, run.plan.graph.tasks
    skips, waits, people = plan.skips(), plan.waits(), plan.waiting_for_person()
    for task_id, task in tasks.items():
        if not run.only or task_id in run.only:
            assert task.is_completed or task_id in plan.outcomes or skips.get(task_id) or task_id in people
        assert task.is_completed or waits[task_id]
    assert waits.keys() == {i for i, task in tasks.items() if not task.is_completed}
    assert not skips.keys() & ({*plan.outcomes, *people})
    assert not [i for i in run.news if run.head.is_open(i) and isinstance(plan.outcomes.get(i), Blocked)]


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_node_completes_when_every_session_succeeds(choice: Random) -> None:
    run = SimulatedRun(choice, has_trouble=False)
    run.work()
    assert all(task.is_completed for task in run.plan.graph.tasks.values())
    assert not run.plan.waits()
    assert not run.plan.skips()
    assert run.plan.outcomes.keys() == run.plan.graph.tasks.keys()


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_edit_of_the_head_gives_the_order_of_a_new_plan(choice: Random) -> None:
    plan = Twins(SimulatedRun(choice, has_trouble=True).plan.graph)
    for _ in range(6):
        tasks = dict(plan.graph.tasks)
        for task_id in choice.sample(sorted(tasks), choice.randint(1, len(tasks))):
            change = (
                {"status": choice.choice([*Status])} if choice.random() < 0.7 else {"scope": choice.choice([*Scope])}
            )
            tasks[task_id] = replace(tasks[task_id], **change)  # pyright: ignore[reportArgumentType]
        plan.update(build_graph(tasks.values()))
        assert plan.ready() == Plan(plan.graph).ready()
