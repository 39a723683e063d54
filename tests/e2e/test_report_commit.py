"""Each after-action report is committed in a folder if that is configured, and nothing else with it."""

import subprocess
from pathlib import Path

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.conftest import Coordinator
from e2e.test_messages import make_gated
from generated_graphs import Made, run_git

pytestmark = pytest.mark.xdist_group("prefect, with workers")
SETTING = "report: {folder: docs/aar}\n"


def make(place: Path, **files: str) -> Made:
    made = make_gated(place, 1, gated=0)
    settings = made.repository / "coordinator.yaml"
    texts = {"coordinator.yaml": settings.read_text(encoding="utf-8") + SETTING, **files}
    for path, text in texts.items():
        (made.repository / path).write_text(text, encoding="utf-8")
    subprocess.run(["git", "add", "-A"], cwd=made.repository, check=True)
    subprocess.run(["git", "commit", "-qm", "Commit reports"], cwd=made.repository, check=True)
    return made


def test_report_is_committed_alone_and_only_after_a_run_that_did_something(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make(tmp_path)
    before = snapshot_user_state(made.repository)
    code, output = coordinator.run("run", made.repository)
    assert code == 0, output
    subject, run, path = run_git(
        made.repository, "log", "-1", "--format=%s%n%(trailers:key=Run,valueonly,separator=)", "--name-only", "main"
    ).split("\n")[:2] + run_git(made.repository, "show", "--format=", "--name-only", "main").split("\n")
    assert subject == f"Report on run {run[:8]}"
    assert path.startswith("docs/aar/2")
    assert path.endswith(f"-{run[:8]}.md")
    text = run_git(made.repository, "show", f"main:{path}")
    assert text.startswith("# AAR: ")
    assert "flat-0" in text
    assert f"committed as {path}" in output
    report = run_git(made.repository, "rev-parse", "main")
    meant = Meant({"flat-0": "completed"}, made.verify)
    assert check(made.repository, before=before, meant=meant) == []
    assert run_git(made.repository, "status", "--porcelain") == ""

    code, output = coordinator.run("run", made.repository)
    assert code == 0, output
    assert run_git(made.repository, "rev-parse", "main") == report
    assert coordinator.run("doctor", "--audit", made.repository)[0] == 0


def test_report_that_cannot_be_committed_is_said_and_the_run_is_as_good(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make(tmp_path, docs="a file\n")
    code, output = coordinator.run("run", made.repository)
    assert code == 0, output
    assert "was not committed: docs: is in the way" in " ".join(output.split())
    assert run_git(made.repository, "show", "main:docs") == "a file"


def test_folder_below_the_task_files_is_refused(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make(tmp_path)
    (made.repository / "coordinator.yaml").write_text("report: {folder: tasks/aar}\n", encoding="utf-8")
    code, output = coordinator.run("run", made.repository)
    assert code == 2, output
    assert "report.folder is tasks/aar, below the folder of task files" in " ".join(output.split())
