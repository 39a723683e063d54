"""Which programs a run's children find: those of the project's own environment, not those of coordinator's."""

import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_harness import RunHarness

from tasks_lib.project.loading import load_project
from tasks_lib.runtime.backend_factory import find_command_fault

MISSING = {"agent": {"command": ["no-such-agent"]}}
WRAPPED = {"agent": {"command": ["no-such-agent"]}, "wrapper": ["sh"]}
ROOT = Path(__file__).parents[2]
SHOW_PATH = """\
import os, sys
from pathlib import Path
from tasks_lib.project.child_environment import ChildEnvironments
from tasks_lib.project.loading import load_project
project = load_project(Path(sys.argv[1]))
for kind in ("setup", "agent", "verify"):
    print(ChildEnvironments(project.settings, project.repository, Path(sys.argv[2])).of(kind, 1)["PATH"])
"""


@pytest.mark.parametrize("is_inside", [True, False])
def test_environment_of_the_project_stays_on_path_and_coordinators_own_does_not(
    harness: RunHarness, tmp_path: Path, *, is_inside: bool
) -> None:
    harness.make({"a": {}})
    place = (harness.top if is_inside else tmp_path) / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(place)], check=True)
    variables = {
        "PATH": f"{place / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
    }
    (tmp_path / "private").mkdir()
    command = [str(place / "bin" / "python"), "-c", SHOW_PATH, str(harness.top), str(tmp_path / "private")]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    paths = [line.split(":") for line in done.stdout.splitlines()]
    assert [str(place / "bin") in path for path in paths] == [is_inside] * 3


@pytest.mark.parametrize(
    ("settings", "is_refused"),
    [
        (MISSING, True),
        ({"agent": {"command": ["/no/such/agent"]}}, True),
        ({"agent": {"command": ["~/agent"]}}, True),
        ({**WRAPPED, "wrapper": ["no-such-sandbox"]}, True),
        (WRAPPED, False),
        ({**MISSING, "setup": ["true"]}, False),
        ({"agent": {"command": ["./tools/agent"]}}, False),
        ({"agent": {"command": ["sh"]}}, False),
    ],
)
def test_program_that_no_node_could_run_is_refused_and_nothing_else(
    harness: RunHarness, settings: Mapping[str, Any], *, is_refused: bool
) -> None:
    harness.make({"a": {}})
    harness.commit("Configure", {"coordinator.yaml": yaml.safe_dump(dict(settings))})
    assert bool(find_command_fault(load_project(harness.top))) is is_refused


def test_graph_in_which_no_agent_can_start_needs_no_program(harness: RunHarness) -> None:
    harness.make({"a": {"assignee": "human"}, "b": {"depends_on": ["a"]}})
    harness.commit("Configure", {"coordinator.yaml": yaml.safe_dump(MISSING)})
    assert find_command_fault(load_project(harness.top)) == ""


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("variables", [{}, {"env": {"agent": ["IS_SANDBOX"]}}])
def test_claude_code_that_would_refuse_to_start_as_root_is_told(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch, uid: int, variables: Mapping[str, Any]
) -> None:
    program = harness.place / "claude"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    command = [str(program), "-p", "--dangerously-skip-permissions"]
    harness.make({"a": {}})
    (harness.top / "coordinator.yaml").write_text(yaml.safe_dump({"agent": {"command": command}, **variables}))
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setenv("IS_SANDBOX", "1")
    fault = find_command_fault(load_project(harness.top, {}))
    assert fault.startswith("Claude Code refuses to bypass permissions as root") is (not uid and not variables)
    assert bool(fault) is (not uid and not variables)
