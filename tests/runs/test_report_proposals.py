"""`coordinator report --propose`: action items become task files, which a second run works on."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from run_harness import RunHarness

from flows.cli.commands.report import show_report
from tasks_lib.errors import InputError
from tasks_lib.project.loading import load_project

CONFLICT = """
case $id in
  a | b) echo "$id $turn" > same.txt; if [ $turn != 1 ]; then git merge -q -X ours $COORDINATOR_TARGET; fi; commit x ;;
  *) work ;;
esac
"""


def show(top: Path, run: str = "", *, is_proposing: bool = False, as_json: bool = False) -> str:
    output = io.StringIO()
    console = Console(file=output, width=200)
    assert show_report(top, run, "", is_proposing=is_proposing, as_json=as_json, console=console) == 0
    return output.getvalue()


async def test_what_is_proposed_is_valid_is_written_once_and_is_worked_by_the_next_run(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, CONFLICT)
    (await harness.work()).names  # noqa: B018 - Both land, one of them after a conflict.
    assert "Wrote" not in show(harness.top)
    told = show(harness.top, is_proposing=True)
    [path] = sorted((harness.top / "tasks").glob("aar-*.md"))
    assert f"Wrote tasks/{path.name}." in told
    text = path.read_text()
    assert "name: Let same.txt be changed in several places at once" in text
    assert "merge.refused of " in text
    assert "No action item asks for a new task file." in show(harness.top, is_proposing=True)
    harness.git.run("add", "tasks")
    harness.git.run("commit", "-q", "-m", "Plan what the report asks for")
    assert "No action item asks for a new task file." in show(harness.top, is_proposing=True)
    assert (await harness.work()).names == {path.stem: "Merged"}
    assert load_project(harness.top, {}).graph.tasks[path.stem].is_completed
    first = path.stem.removeprefix("aar-").removesuffix("-1")
    assert "No action item asks for a new task file." in show(harness.top, first, is_proposing=True)


async def test_what_happens_again_is_proposed_again_once_its_task_is_completed(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, CONFLICT)
    await harness.work()
    show(harness.top, is_proposing=True)
    [path] = sorted((harness.top / "tasks").glob("aar-*.md"))
    path.write_text(path.read_text().replace("status: pending", "status: completed"))
    for name in ("a", "b"):
        text = harness.show(f"tasks/{name}.md").replace("status: completed", "status: pending")
        (harness.top / "tasks" / f"{name}.md").write_text(text)
    harness.git.run("add", "tasks")
    harness.git.run("commit", "-q", "-m", "Do it all again")
    assert (await harness.work()).names == {"a": "Merged", "b": "Merged"}
    show(harness.top, is_proposing=True)
    assert len(sorted((harness.top / "tasks").glob("aar-*.md"))) == 2


async def test_a_file_in_the_way_is_an_error_and_is_kept(
    harness: RunHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    harness.make({"a": {}, "b": {}}, CONFLICT)
    run = (await harness.work()).view.run
    place = harness.top / "tasks" / f"aar-{run[:8]}-1.md"
    place.write_text("mine\n")
    with pytest.raises(InputError, match=place.name):
        show(harness.top, is_proposing=True)
    assert place.read_text() == "mine\n"
    place.unlink()
    show(harness.top, is_proposing=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["proposed"] == [f"tasks/{place.name}"]


async def test_nothing_is_proposed_without_a_checkout(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, CONFLICT)
    await harness.work()
    bare = harness.place / "bare.git"
    shutil.copytree(harness.top / ".git", bare)
    harness.git.run("config", "--file", str(bare / "config"), "core.bare", "true")
    with pytest.raises(InputError, match="bare repository"):
        show(bare, is_proposing=True)
