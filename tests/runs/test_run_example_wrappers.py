"""The wrappers in examples/agents do what they say, with the real programs and with one that nobody knows."""

import os
from pathlib import Path

import pytest
import yaml
from checker import Meant, check, snapshot_user_state
from e2e.opencode_harness import bash, commit, node, read_prompts
from run_harness import RunHarness
from runs.program_harness import opening_program

from tasks_lib.reporting.run_report import ExitCode

pytestmark = pytest.mark.xdist_group("presets")
WRAPPERS = Path(__file__).resolve().parents[2] / "examples" / "agents"
UNKNOWN = """\
#!/bin/sh
[ "$1 $2 $3 $4" = "run --yes --session $COORDINATOR_SESSION" ] || exit 9
cat > /dev/null
if [ -e {place}/limit ]; then rm {place}/limit; exit 3; fi
if [ -e {place}/logged-out ]; then rm {place}/logged-out; exit 4; fi
echo "$5" >> x.txt
git add x.txt
git commit -q -m "feat: write x"
echo "I wrote x."
"""


@pytest.mark.parametrize("name", ["claude", "codex"])
async def test_a_wrapper_for_a_known_program_keeps_the_conversation(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opening_program(tmp_path, name, monkeypatch) as known:
        files = ["{prompt_file}", "{answer_file}"] if name == "codex" else ["{answer_file}"]
        known.agent = {"preset": "", "model": "", "command": [str(WRAPPERS / f"{name}.sh"), *files]}
        monkeypatch.setenv("ANTHROPIC_MODEL", "m1")
        fix = bash("git rm -q bad; git commit -qm fix")
        tasks = {"a": node(commit("a", "echo 1 > bad"), {"say": "Did it."}, fix, {"say": "Fixed it."})}
        known.make(tasks, verify=["test ! -e bad"], env={"agent": ["ANTHROPIC_*", "CODEX_API_KEY"]})
        before = snapshot_user_state(known.top)
        worked = await known.work()
        assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])
        assert check(known.top, before=before, meant=Meant({"a": "completed"}, ["test ! -e bad"])) == []
        assert len(read_prompts(known.requests("a")[-1])) == 2
        assert known.show("tasks/a.md").rstrip().endswith("Did it.\n\nFixed it.")


@pytest.mark.parametrize(("trouble", "said"), [("limit", "my-agent is rate limited"), ("logged-out", "not logged in")])
async def test_a_wrapper_for_an_unknown_program_tells_what_its_statuses_mean(
    trouble: str, said: str, harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.make({"a": {}}, watch={"limit_seconds": 5})
    settings = yaml.safe_load(harness.show("coordinator.yaml"))
    command = [str(WRAPPERS / "any.sh"), "{prompt_file}", "{answer_file}"]
    harness.commit("Use it", {"coordinator.yaml": yaml.safe_dump({**settings, "agent": {"command": command}})})
    program = harness.place / "bin" / "my-agent"
    program.parent.mkdir()
    program.write_text(UNKNOWN.format(place=harness.place))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (harness.place / trouble).touch()
    worked = await harness.work()
    assert (worked.code, worked.retries) == (ExitCode.BLOCKED, [])
    assert any(said in line for line in worked.view.messages)
    worked = await harness.work()
    assert worked.code is ExitCode.COMPLETED
    assert harness.show("x.txt") == "--continue\n"
    assert harness.show("tasks/a.md").rstrip().endswith("I wrote x.")
