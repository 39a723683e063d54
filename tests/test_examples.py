"""The examples shown to readers and the configurations of the demo and the generated graphs load without errors."""

from pathlib import Path

import pytest
from generated_graphs import make_repository

from flows.demo.story import make_demo
from tasks_lib.graph.task_graph import check_graph
from tasks_lib.model import Task
from tasks_lib.settings.schema import Settings, read_settings
from tasks_lib.taskfile.parsing import parse_task

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def read(path: Path) -> Settings:
    return read_settings(path.read_text(encoding="utf-8"), path.name, {})


def test_the_example_names_every_key() -> None:
    assert read(EXAMPLES / "coordinator.yaml").model_fields_set == Settings.model_fields.keys() - {"target"}


@pytest.mark.parametrize(
    "key",
    [
        "max_sessions",
        "roles",
        "branch_prefix",
        "wrapper",
        "review",
        "watch",
        "budget",
        "prompts",
        "retry",
        "land",
        "spokes",
    ],
)
def test_what_the_example_calls_a_default_is_one(key: str) -> None:
    assert getattr(read(EXAMPLES / "coordinator.yaml"), key) == getattr(read_settings("", "", {}), key)


def test_the_task_files_of_the_example_make_a_graph() -> None:
    tasks: list[Task] = []
    for path in sorted((EXAMPLES / "tasks").rglob("*.md")):
        task, faults = parse_task(path.read_bytes(), str(path))
        assert faults == ()
        assert task is not None
        tasks.append(task)
    assert {task.id for task in tasks} == {"schema", "session-store", "auth/setup", "auth/review"}
    assert check_graph(tasks) == ()


def test_the_settings_of_the_demo_and_of_generated_graphs_are_read(tmp_path: Path) -> None:
    demo = make_demo(tmp_path / "demo", pace=0.5).repository
    made = make_repository(tmp_path, settings={"max_sessions": 2})
    assert read(demo / "coordinator.yaml").agent.command[-1] == "0.5"
    assert read(made.repository / "coordinator.yaml").max_sessions == 2
