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

    def _look_again(self, task_ids: Iterable[str]) -> None:
        super()._look_again({*task_ids, *self._graph.tasks})

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


class World:
    """A head that sessions and people change, and a plan that reads it occasionally, checked at every start."""

    def __init__(self, choice: Random, *, has_trouble: bool) -> None:
        self.choice = choice
        self.has_trouble = has_trouble
        self.edits_left = EDITS if has_trouble else 0
        self.commits = 0
        self.head: dict[str, Task] = {}
        for number in range(choice.randint(1, 9)):
            self.add_task(f"n{number}")
        only = [i for i in self.head if choice.random() < 0.7] if has_trouble and choice.random() < 0.3 else []
        self.plan = Twins(self.read(), only)
        self.only = set(only)
        self.news: set[str] = set()

    def read(self) -> Graph:
        return build_graph(self.head.values())

    def commit(self, task: Task) -> None:
        self.commits += 1
        self.head[task.id] = replace(task, blob=str(self.commits))

    def add_task(self, task_id: str) -> None:
        status = self.choice.choice([*Status, *[Status.PENDING] * 8]) if self.has_trouble else Status.PENDING
        above = self.choice.sample(sorted(self.head), self.choice.randint(0, min(3, len(self.head))))
        is_human = self.has_trouble and self.choice.random() < 0.1
        scope = self.choice.choice([*Scope, None])
        assignee = "human" if is_human else None
        self.commit(Task(task_id, task_id, task_id, "", status, tuple(above), scope, assignee=assignee))

    def is_open(self, task_id: str) -> bool:
        return not self.head[task_id].is_completed and all(
            self.head[i].is_completed for i in self.head[task_id].depends_on
        )

    def complete(self, task_id: str) -> None:
        self.commit(replace(self.head[task_id], status=Status.COMPLETED))
        # A task that was reopened and landed again between two reads is not new: the plan sees graphs, not history.
        if self.is_news(task_id):
            self.news.update(i for i, task in self.head.items() if task_id in task.depends_on)

    def is_news(self, task_id: str) -> bool:
        """Whether this is a resolve task that has landed since the plan last read the head."""
        read = self.plan.graph.tasks.get(task_id)
        return is_resolve_task(task_id) and self.head[task_id].is_completed and not (read and read.is_completed)

    def edit_head(self) -> None:
        """One thing that a person does: completes their node, unblocks a node, adds a task or a dependency."""
        self.edits_left -= 1
        theirs = [i for i, task in self.head.items() if task.is_human and self.is_open(i)]
        blocked = [i for i, task in self.head.items() if task.status is Status.BLOCKED]
        landed = [i for i, task in self.head.items() if task.is_completed and i not in self.plan.running]
        match self.choice.randrange(5):
            case 0 if theirs:
                self.complete(self.choice.choice(theirs))
            case 1 if blocked:
                chosen = self.head[self.choice.choice(blocked)]
                above = tuple(i for i in chosen.depends_on if not is_resolve_task(i) or self.choice.random() < 0.5)
                self.commit(replace(chosen, status=Status.PENDING, depends_on=above))
                self.news.add(chosen.id)
            case 2:
                self.add_task(f"late{self.edits_left}")
            case 3 if landed:
                taken = self.choice.choice(landed)
                self.commit(replace(self.head[taken], status=Status.PENDING))
            case _:
                self.add_prerequisite()

    def add_prerequisite(self) -> None:
        self.commit(Task(f"first{self.edits_left}", "first", "first"))
        chosen = self.head[self.choice.choice(sorted(self.head)[:-1] or sorted(self.head))]
        if chosen.depends_on and not chosen.is_completed:
            self.commit(replace(chosen, depends_on=(*chosen.depends_on, f"first{self.edits_left}")))
            # While the file still says that the node is blocked, nobody has asked for it to run.
            self.news.update({chosen.id} if chosen.status is not Status.BLOCKED else ())

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
        kind = self.choice.randrange(8) if self.has_trouble else 7
        outcome: Outcome = Failed("broke") if kind == 0 else Aborted("by hand") if kind == 1 else Merged("c")
        if kind in {2, 3}:
            outcome = self.block(task_id, has_resolve=kind == 2)
        elif isinstance(outcome, Merged):
            self.complete(task_id)
        if self.choice.random() < 0.5:
            self.plan.update(self.read())
        if not any(map(self.is_news, self.head[task_id].depends_on)):
            self.news.discard(task_id)
        self.plan.finish(task_id, outcome)

    def block(self, task_id: str, *, has_resolve: bool) -> Blocked:
        task = self.head[task_id]
        if not has_resolve or is_resolve_task(task_id):
            self.commit(replace(task, status=Status.BLOCKED))
            return Blocked("stuck")
        resolve_id = name_resolve_task(task_id, self.head)
        self.commit(Task(resolve_id, "r", "r", assignee="human" if self.choice.random() < 0.6 else None))
        self.commit(replace(task, status=Status.BLOCKED, depends_on=(*task.depends_on, resolve_id)))
        return Blocked("stuck", resolve_id)

    def step(self) -> bool:
        """Do one of the possible things; return False when the run is over."""
        ready, running = bool(self.plan.ready()), bool(self.plan.running)
        if self.edits_left and self.choice.random() < 0.3:
            self.edit_head()
        elif ready and (not running or self.choice.random() < 0.5):
            self.start_first()
        elif running:
            self.finish_one()
        else:
            before = self.plan.graph
            self.plan.update(self.read())
            return self.plan.ready() != () or self.plan.graph != before
        if self.choice.random() < 0.4:
            self.plan.update(self.read())
        return True

    def run(self) -> None:
        steps = 0
        while self.step():
            steps += 1
            # Each node starts once, and once more for each new thing: people's edits and agents' resolve tasks.
            assert steps < 2000
        assert (self.plan.running, self.plan.ready()) == (frozenset(), ())


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_node_starts_correctly_and_is_accounted_for(choice: Random) -> None:
    world = World(choice, has_trouble=True)
    world.run()
    plan, tasks = world.plan, world.plan.graph.tasks
    skips, waits, people = plan.skips(), plan.waits(), plan.waiting_for_person()
    for task_id, task in tasks.items():
        if not world.only or task_id in world.only:
            assert task.is_completed or task_id in plan.outcomes or skips.get(task_id) or task_id in people
        assert task.is_completed or waits[task_id]
    assert waits.keys() == {i for i, task in tasks.items() if not task.is_completed}
    assert not skips.keys() & ({*plan.outcomes, *people})
    assert not [i for i in world.news if world.is_open(i) and isinstance(plan.outcomes.get(i), Blocked)]


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_node_completes_when_every_session_succeeds(choice: Random) -> None:
    world = World(choice, has_trouble=False)
    world.run()
    assert all(task.is_completed for task in world.plan.graph.tasks.values())
    assert not world.plan.waits()
    assert not world.plan.skips()
    assert world.plan.outcomes.keys() == world.plan.graph.tasks.keys()


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_edit_of_the_head_gives_the_order_of_a_new_plan(choice: Random) -> None:
    plan = Twins(World(choice, has_trouble=True).plan.graph)
    for _ in range(6):
        tasks = dict(plan.graph.tasks)
        for task_id in choice.sample(sorted(tasks), choice.randint(1, len(tasks))):
            change = (
                {"status": choice.choice([*Status])} if choice.random() < 0.7 else {"scope": choice.choice([*Scope])}
            )
            tasks[task_id] = replace(tasks[task_id], **change)  # pyright: ignore[reportArgumentType]
        plan.update(build_graph(tasks.values()))
        assert plan.ready() == Plan(plan.graph).ready()
