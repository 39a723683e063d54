"""Generated graphs behave as described: run by their agents, they conflict, turn red and block once, as planned."""

from pathlib import Path

import pytest
from checker import Meant, check, snapshot_user_state
from generated_graphs import BlockWith, Made, make_repository
from minimal_coordinator import MinimalCoordinator

from tasks_lib.graph.task_graph import build_graph
from tasks_lib.model import Task
from tasks_lib.taskfile.parsing import parse_task


def read_tasks(made: Made) -> list[Task]:
    tasks: list[Task] = []
    for path in made.paths.values():
        task, faults = parse_task((made.repository / path).read_bytes(), path)
        assert task is not None
        assert faults == ()
        tasks.append(task)
    return tasks


@pytest.mark.parametrize("seed", range(5))
def test_every_generated_task_file_means_what_was_drawn(tmp_path: Path, seed: int) -> None:
    made = make_repository(tmp_path, nodes=40, seed=seed)
    tasks = {task.id: task for task in read_tasks(made)}
    assert {task_id: task.depends_on for task_id, task in tasks.items()} == made.edges
    assert {task_id for task_id, task in tasks.items() if task.is_completed} == set(made.completed_before)
    assert set(build_graph(tasks.values()).order()) == set(made.edges)


def test_the_same_seed_makes_the_same_graph(tmp_path: Path) -> None:
    first, second = (make_repository(tmp_path / name, seed=7) for name in ("one", "two"))
    assert (first.edges, first.paths, first.expected) == (second.edges, second.paths, second.expected)


def test_too_few_nodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 14"):
        make_repository(tmp_path, nodes=13)


@pytest.mark.parametrize(("block_with", "nodes"), [("task-file", 17), ("notify", 14)])
def test_a_worked_graph_ends_as_planned(tmp_path: Path, block_with: BlockWith, nodes: int) -> None:
    made = make_repository(tmp_path, nodes=nodes, seed=nodes, block_with=block_with, seconds=(0.0, 0.0))
    before = snapshot_user_state(made.repository)
    MinimalCoordinator(made.repository, tmp_path / "bin").work()
    meant = Meant(made.expected, made.verify, sample=None if block_with == "task-file" else 2)
    assert check(made.repository, before=before, meant=meant) == []
    again = {line["id"] for line in made.read_journal() if line["turn"] > 1}
    assert made.red in again
    assert len(again & set(made.conflicting)) == 1
    assert len(again & set(made.rivals)) == 1
    assert not again & {made.blocked, made.review}
    assert not {line["id"] for line in made.read_journal()} & set(made.skipped)
    assert made.count_most_at_once() > 1


def test_a_changed_behaviour_is_what_the_agent_reads(tmp_path: Path) -> None:
    made = make_repository(tmp_path, nodes=14)
    made.behave(made.blocked, block_with=None, block_until=None, exit_status=3)
    made.behave("another", daemon=True)
    text = made.plan_path.read_text()
    assert '"block_with"' not in text
    assert '"exit_status": 3' in text
    assert '"another"' in text
