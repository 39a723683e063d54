"""The sandbox from docs/security.md, exactly as printed there, around a real agent."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from run_harness import RunHarness, open_harness

TOP = Path(__file__).resolve().parent.parent.parent
INSTALLED = TOP / ".local/bubblewrap/usr/bin"
PROGRAMS = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{INSTALLED}"
AGENT = """
try() { ( eval "$1" ) > /dev/null 2>&1 && echo "$1" >> escaped.txt || :; }
try 'echo x > ../../../README.md'
try 'git config core.editor evil'
try 'git update-ref refs/heads/main HEAD'
try 'git update-ref refs/coordinator/queue/main HEAD'
try 'git branch mine'
try 'echo x > ../x'
try 'echo x > "$(git rev-parse --git-common-dir)/hooks/post-commit"'
try "echo x > $HOME/x"
(setsid env -i tail -f "$0" > /dev/null 2>&1 &)
coordinator notify "reached $id"
mktemp > /dev/null
work
"""


@pytest.fixture
def harness() -> Iterator[RunHarness]:
    """A harness outside /dev, where other tests may have theirs, because the sandbox has its own /dev."""
    with tempfile.TemporaryDirectory() as place, open_harness(Path(place)) as made:
        yield made


@pytest.mark.skipif(shutil.which("bwrap", path=PROGRAMS) is None, reason="bubblewrap is not installed")
async def test_documented_sandbox_lets_work_through_and_nothing_else(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", PROGRAMS)
    text = (TOP / "docs" / "security.md").read_text()
    wrapper = yaml.safe_load(text.split("```yaml\n", 1)[1].split("```", 1)[0])["wrapper"]
    harness.make({"a": {}, "b": {}}, AGENT, wrapper=wrapper, verify=["test -f README.md"], setup=["true"])
    # The tests' journal is outside the worktree, where the sandbox denies writes.
    script = (harness.place / "agent.sh").read_text()
    begin = script.index("J=")
    (harness.place / "agent.sh").write_text(script[:begin] + script[script.index("id=$COORDINATOR_TASK_ID") :])
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert not harness.has("escaped.txt"), harness.show("escaped.txt")
    assert any("reached a" in line for line in worked.lines)
    assert harness.leftovers() == []
    assert end_daemons(str(harness.place / "agent.sh")) == []


def end_daemons(watched: str) -> list[int]:
    """End remaining daemons, which have left their group, parent and environment; return their pids."""
    left = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["tail", "-f", watched]]
    for one in left:
        one.kill()
    return [one.pid for one in left]
