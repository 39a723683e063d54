"""Submodules of repositories whose sessions run on another machine."""

import subprocess

from spoke_harness import SpokeHarness

from tasks_lib.git.runner import Git
from tasks_lib.reporting.run_report import ExitCode

FILL = "git -c protocol.file.allow=always submodule --quiet update --init"
WRITE = "cd lib; git config user.name A; git config user.email a@b; echo 2 >> x; git commit -q -a -m two; cd ..;"
POINT = "git add lib; git commit -q -m point; echo Done."


def make(spokes: SpokeHarness, agent: str) -> None:
    """Make a repository with the submodule lib, whose remote is next to it, and push it to the shared remote."""
    spokes.make({"a": {}}, agent, setup=[FILL], verify=["true"])
    lines = (
        "git init -q -b main ../library; cd ../library; git config user.name A; git config user.email a@b;"
        "git config receive.denyCurrentBranch ignore; echo 1 > x; git add x; git commit -q -m one; cd ../repository;"
        f"git -c protocol.file.allow=always submodule --quiet add {spokes.place}/library lib; git commit -q -m Lib;"
        "git push -q origin main"
    )
    subprocess.run(["/bin/sh", "-ec", lines], cwd=spokes.top, check=True, capture_output=True)


async def test_files_of_a_submodule_are_there_for_the_agent(spokes: SpokeHarness) -> None:
    make(spokes, "cp lib/x copy.txt; work")
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.show("copy.txt") == "1\n"
    assert spokes.list_left("north") == []


async def test_a_commit_that_the_agent_pushed_to_the_submodules_remote_lands(spokes: SpokeHarness) -> None:
    make(spokes, f"{WRITE} git -C lib push -q origin HEAD:refs/heads/two; {POINT}")
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    assert Git(spokes.place / "library").text("rev-parse", "two") == spokes.git.text("rev-parse", "main:lib")


async def test_a_commit_that_no_remote_of_the_submodule_has_is_told_and_kept_there(spokes: SpokeHarness) -> None:
    make(spokes, f"{WRITE} {POINT}")
    result = await spokes.work()
    assert result.names == {"a": "Failed"}
    assert any("a commit that is not on any remote of the submodule" in line for line in result.lines)
    kept = Git(spokes.place_of("north")).text("for-each-ref", "--format=%(refname)", "refs/coordinator/kept").split()
    assert kept, "nothing is lost"
    said = str(result.outcomes["a"])
    assert "The branch points the submodule lib to" in said, "the next attempt's setup could not fetch it"
    assert f"It is kept here at {kept[0]} of {spokes.place_of('north')}: `git -C" in said
    assert Git(spokes.place_of("north")).text("cat-file", "blob", f"{kept[0]}:x").startswith("1\n2")


async def test_uncommitted_files_of_a_submodule_stay_on_the_machine_and_are_kept_there(spokes: SpokeHarness) -> None:
    make(spokes, "echo 2 >> lib/x; work")
    result = await spokes.work()
    assert result.code is ExitCode.COMPLETED, result.lines
    [kept] = spokes.list_left("north")
    assert Git(spokes.place_of("north")).text("cat-file", "blob", f"{kept}:x") == "1\n2"
