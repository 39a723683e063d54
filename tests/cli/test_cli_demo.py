"""What `demo` reports about a run that went as its story describes, and about one that did not."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.cli.commands.demo import choose_program, clear_place, find_wrong, tell
from flows.data_directory import name_program
from flows.demo.model_server import ModelServer
from flows.demo.story import DemoStory, make_demo
from tasks_lib.errors import InputError
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.reporting.run_report import ExitCode


@pytest.fixture
def story(tmp_path: Path) -> DemoStory:
    return make_demo(tmp_path / "demo")


def test_repository_that_nobody_worked_is_not_taken_for_the_end_of_the_story(story: DemoStory) -> None:
    wrong = find_wrong(story, ExitCode.COMPLETED)
    assert wrong[0].startswith("the run ended with 0 instead of 1")
    assert len(wrong) > len(story.landed)


def test_everything_that_went_wrong_is_told(story: DemoStory) -> None:
    output = io.StringIO()
    tell(story, ["this [/x]", "that"], Console(file=output), is_kept=True)
    assert output.getvalue().splitlines()[1:] == ["The demo did not go as expected:", "  this [/x]", "  that"]


def test_next_steps_are_commands_that_can_be_copied(story: DemoStory) -> None:
    output = io.StringIO()
    tell(story, [], Console(file=output), is_kept=True)
    for text in (f"  cd {story.repository}", f"  {name_program()} run", "tax/rounding is blocked"):
        assert text in output.getvalue()


def test_earlier_demo_makes_way_unless_it_is_being_worked(story: DemoStory) -> None:
    with (
        RunLock(story.repository / ".git" / "coordinator", "r1"),
        pytest.raises(InputError, match="still in use by run r1"),
    ):
        clear_place(story.repository)
    assert not clear_place(story.repository).exists()


def test_next_run_of_a_demo_with_opencode_is_told_to_have_its_model(story: DemoStory) -> None:
    output = io.StringIO()
    with ModelServer() as model:
        tell(story, [], Console(file=output), is_kept=True, model=model)
    assert f"-m flows.demo.model_server --demo --port {model.port} &" in output.getvalue()


def test_opencode_that_is_not_there_or_not_asked_for_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no program"):
        choose_program("opencode", tmp_path / "opencode")
    with pytest.raises(InputError, match="only works with --backend opencode"):
        choose_program("command", tmp_path / "opencode")
