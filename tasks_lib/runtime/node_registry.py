"""Keeps what a run knows about its nodes: the graph, branches, records, and the diffstats of landed nodes."""

from tasks_lib.errors import InputError
from tasks_lib.git.commits.branch_state import read_diffstat
from tasks_lib.git.commits.landed_commits import find_landed
from tasks_lib.graph.task_graph import Graph, build_graph, check_graph
from tasks_lib.naming import name_branches
from tasks_lib.project.loading import Project
from tasks_lib.runtime.git_access import GitAccess
from tasks_lib.runtime.run_journal import RunJournal
from tasks_lib.session.attempt_record import Record
from tasks_lib.session.fingerprint import Dispatches

MAX_HISTORY = 100_000
"""How many first-parent commits to search for nodes that landed before this run."""


class NodeRegistry:
    """The nodes of one run. `graph` was last read from the head; `records` are those of nodes that have not landed.

    `to_land` are those that a person wants to land, and that have not been started for it; `let_landed` are all of
    which a person wanted that in this run. What happens to all of them is written to `journal`.
    """

    def __init__(self, project: Project, git: GitAccess) -> None:
        self.graph: Graph = project.graph
        self.records: dict[str, Record] = {}
        self.to_land: set[str] = set()
        self.let_landed: set[str] = set()
        self.dispatches: Dispatches = Dispatches()
        self.journal: RunJournal = RunJournal()
        self._project = project
        self._git = git
        self._branches: dict[str, str] = {}
        self._landed: dict[str, str] = {}
        self._is_history_read = False
        self._diffstats: dict[str, str] = {}

    def branch_of(self, task_id: str) -> str:
        """Return the branch of a node; its name does not change during a run."""
        if task_id not in self._branches:
            prefix, target = self._project.settings.branch_prefix, self._project.target
            self._branches = {**name_branches(self.graph.tasks.values(), prefix, target=target), **self._branches}
        return self._branches[task_id]

    def let_land(self, record: Record) -> None:
        """Have the node of `record` land, as a person wants."""
        self.records[record.task_id] = record
        self.to_land.add(record.task_id)
        self.let_landed.add(record.task_id)

    def is_permitted(self, task_id: str) -> bool:
        """Return whether a person has let the finished work on a node land."""
        record = self.records.get(task_id)
        return record is not None and record.acceptance.is_permitted

    def list_moving_refs(self) -> set[str]:
        """Return the full refs that a run is expected to move: the target and the branches of nodes."""
        branches = {self.branch_of(task_id) for task_id in tuple(self.graph.tasks)}
        return {f"refs/heads/{branch}" for branch in (self._project.target, *branches)}

    def landed(self, task_id: str) -> str:
        """Return the commit with which a node landed, "" if it has none; git is called only once for all."""
        if not self._is_history_read:
            head, git = self._git.head, self._git.repository.git
            self._landed = {**find_landed(git, head.current(), MAX_HISTORY), **self._landed}
            self._is_history_read = True
        return self._landed.get(task_id, "")

    def diffstat(self, task_id: str) -> str:
        """Return the diffstat of a landed node's merge, "" if it has none; git is called only once for each."""
        if not (commit := self.landed(task_id)):
            return ""
        if commit not in self._diffstats:
            self._diffstats[commit] = read_diffstat(self._git.repository.git, commit)
        return self._diffstats[commit]

    def remember_landed(self, task_id: str, commit: str) -> None:
        self._landed[task_id] = commit

    def read_graph_at(self, commit: str) -> Graph:
        """Return the graph at `commit`. Raises InputError naming every fault."""
        reading = self._git.reader.read(commit)
        if errors := [fault for fault in reading.faults if not fault.is_warning]:
            raise InputError([*errors, *(fault for fault in check_graph(reading.tasks) if not fault.is_warning)])
        return build_graph(reading.tasks, like=self.graph)
