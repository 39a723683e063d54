"""Whole runs in every kind of repository, with every setting: the same work lands, without leftovers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from matrix.checkout_states import UserCheckout
from matrix.test_matrix_settings import HOOKS, SETTINGS, make_hooks
from run_harness import RunHarness, Tasks

from tasks_lib.errors import InputError
from tasks_lib.git.git_program import local_variables
from tasks_lib.git.runner import Git
from tasks_lib.reporting.run_report import ExitCode

CHAIN: Tasks = {"a": {}, "b": {"depends_on": ["a"]}}
LANDED = ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
VERIFY = ["test -f a.txt"]


async def expect_landed(harness: RunHarness, *, at: Path | None = None) -> list[str]:
    """Run the chain and assert that it landed, was published and left nothing; return the messages."""
    worked = await harness.work(at=at)
    assert worked.names == {"a": "Merged", "b": "Merged"}, worked
    assert (worked.code, worked.pending, worked.retries) == (ExitCode.COMPLETED, "", [])
    assert harness.log("%s", "main") == LANDED
    assert harness.show("b.txt") == "b\n"
    assert harness.leftovers() == []
    return list(worked.lines)


class MovedHarness(RunHarness):
    """A harness whose repository is not in the usual directory."""

    elsewhere: Path

    @property
    def top(self) -> Path:
        return self.elsewhere


def move_harness(harness: RunHarness, top: Path) -> RunHarness:
    moved = MovedHarness(harness.place, harness.signals)
    moved.elsewhere = top
    return moved


# Where the run is started.


async def test_run_from_a_subdirectory_works_the_repository(harness: RunHarness) -> None:
    harness.make(CHAIN, verify=VERIFY)
    await expect_landed(harness, at=harness.top / "tasks")
    assert harness.git.text("status", "--porcelain") == ""


async def test_run_from_a_linked_worktree_works_the_repository(harness: RunHarness) -> None:
    harness.make(CHAIN, verify=VERIFY)
    linked = harness.place / "linked"
    harness.git.run("worktree", "add", "--quiet", "-b", "mine", str(linked))
    worked = await harness.work(at=linked)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.log("%s") == LANDED
    assert Git(linked).text("log", "-1", "--format=%s") == "Begin"
    assert Git(linked).text("status", "--porcelain") == ""


async def test_run_with_a_detached_head_moves_the_branch_and_no_file(harness: RunHarness) -> None:
    harness.make(CHAIN, verify=VERIFY)
    harness.git.run("checkout", "--quiet", "--detach")
    await expect_landed(harness)
    assert harness.at("HEAD") != harness.at()
    assert not (harness.top / "a.txt").exists()
    assert harness.git.text("status", "--porcelain") == ""


async def test_run_in_a_bare_repository_makes_its_worktrees_beside_it(harness: RunHarness) -> None:
    harness.make(CHAIN, verify=VERIFY)
    bare = move_harness(harness, harness.place / "bare.git")
    harness.git.run("clone", "--quiet", "--bare", str(harness.top), str(bare.top))
    await expect_landed(bare)
    assert "/.worktrees/bare.git/feat/a" in harness.journal.read("a-1-1", "cwd")
    assert not (harness.place / ".worktrees").exists()


async def test_run_in_a_bare_repository_moves_the_worktree_that_has_the_target(harness: RunHarness) -> None:
    harness.make(CHAIN, verify=VERIFY)
    bare = move_harness(harness, harness.place / "bare.git")
    linked = harness.place / "linked"
    harness.git.run("clone", "--quiet", "--bare", str(harness.top), str(bare.top))
    bare.git.run("worktree", "add", "--quiet", str(linked), "main")
    assert (await bare.work(at=linked)).pending == ""
    assert (linked / "b.txt").read_text() == "b\n"
    assert Git(linked).text("status", "--porcelain") == ""


async def test_run_inside_a_submodule_works_the_submodule_alone(harness: RunHarness) -> None:
    harness.make(CHAIN, verify=VERIFY)
    outer = UserCheckout(harness.place / "outer")
    outer.top.mkdir()
    outer.run(
        "git init -q -b main; git config user.name A; git config user.email a@b.c; git config protocol.file.allow always"
    )
    outer.run(
        f"git -c protocol.file.allow=always submodule --quiet add -b main {harness.top} lib; git commit -q -m Outer"
    )
    outer.run("git config user.name Ada; git config user.email ada@example.org", outer.top / "lib")
    inner = move_harness(harness, outer.top / "lib")
    before = outer.tip()
    worked = await inner.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.pending == ""
    assert inner.log("%s") == LANDED
    assert inner.git.text("status", "--porcelain") == ""
    assert (inner.top / "b.txt").read_text() == "b\n"
    assert outer.tip() == before
    assert outer.run("git status --porcelain") == " M lib"


# What is configured.


@pytest.mark.parametrize(
    "name", ["of merges", "of what is shown", "of the index", "of signatures", "of a file monitor"]
)
async def test_settings_of_a_person_do_not_change_what_a_run_does(harness: RunHarness, name: str) -> None:
    harness.make(CHAIN, verify=VERIFY)
    told = harness.place / "told"
    with (harness.top / ".git/config").open("a") as file:
        file.write(SETTINGS[name].format(told=told, hooks=harness.place))
    lines = await expect_landed(harness)
    assert not [line for line in lines if "\x1b" in line or "error" in line]
    assert "a.txt" in harness.journal.read("b-1-1")
    assert "\x1b" not in harness.journal.read("b-1-1")


@pytest.mark.parametrize("where", ["repository", "relative path", "global path"])
async def test_hooks_run_for_agents_and_never_for_the_hub(harness: RunHarness, where: str) -> None:
    told, hooks = harness.place / "told", harness.place / "hooks"
    make_hooks(
        hooks,
        told,
        (*HOOKS, "pre-commit", "commit-msg", "pre-push", "fsmonitor-watchman"),
        only_without="COORDINATOR_TASK_ID",
    )
    harness.make(CHAIN, verify=VERIFY)
    match where:
        case "repository":
            shutil.copytree(hooks, harness.top / ".git/hooks", dirs_exist_ok=True)
        case "relative path":
            shutil.copytree(hooks, harness.top / ".githooks")
            harness.git.run("config", "core.hooksPath", ".githooks")
            harness.git.run("add", ".githooks")
            harness.git.run("commit", "--quiet", "--amend", "--no-edit")
        case _:
            (harness.place / ".gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n")
    await expect_landed(harness)
    assert not told.exists(), told.read_text()
    assert (harness.place / "told-agent").read_text().count("pre-commit") == 2


async def test_variables_of_git_in_our_environment_do_not_redirect_a_run(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a run is started by a hook, or by an alias with `git -c`."""
    harness.make(CHAIN, verify=VERIFY)
    other = UserCheckout(harness.place / "other")
    other.top.mkdir()
    other.run(
        "git init -q -b main; git config user.name A; git config user.email a@b.c; git commit -q --allow-empty -m Other"
    )
    before = other.read_state()
    for name in local_variables():
        monkeypatch.setenv(name, str(other.top / ".git"))
    for name, value in {
        "GIT_INDEX_FILE": str(other.top / ".git/index"),
        "GIT_WORK_TREE": str(other.top),
        "GIT_OBJECT_DIRECTORY": str(other.top / ".git/objects"),
        "GIT_NAMESPACE": "other",
        "GIT_QUARANTINE_PATH": str(other.top / ".git/objects/incoming"),
        "GIT_ICASE_PATHSPECS": "1",
        "GIT_CEILING_DIRECTORIES": str(harness.place),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.bare",
        "GIT_CONFIG_VALUE_0": "true",
        "GIT_CONFIG_PARAMETERS": "'core.bare=true'",
        "GIT_PREFIX": "tasks/",
        "LC_ALL": "de_DE.UTF-8",
        "LANGUAGE": "de",
    }.items():
        monkeypatch.setenv(name, value)
    await expect_landed(harness)
    assert harness.git.text("status", "--porcelain") == ""
    assert other.read_state().admin == before.admin


ATTRIBUTES = {
    "line ends": ("*.txt text eol=crlf", ""),
    "ident": ("*.txt ident", ""),
    "encoding": ("*.md working-tree-encoding=UTF-8\n*.u16 working-tree-encoding=UTF-16", ""),
    "a filter that is required": (
        "*.txt filter=lfs",
        '[filter "lfs"]\n\tclean = sed s/^/x/\n\tsmudge = sed s/^x//\n\trequired = true\n',
    ),
    "LFS pointers without git-lfs": ("*.txt filter=lfs diff=lfs merge=lfs -text", ""),
}


@pytest.mark.parametrize(("attributes", "settings"), ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
async def test_files_that_git_converts_land_as_the_agent_committed_them(
    harness: RunHarness, attributes: str, settings: str
) -> None:
    harness.make(
        {"a": {}, "b": {}}, verify=['test -z "$(git status --porcelain)"'], files={".gitattributes": attributes + "\n"}
    )
    with (harness.top / ".git/config").open("a") as file:
        file.write(settings)
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}, worked.view
    for name in ("a.txt", "b.txt"):
        merge = harness.git.text("log", "-1", "--merges", f"--grep=Task: {name[0]}", "--format=%H")
        assert harness.git.text("rev-parse", f"main:{name}") == harness.git.text("rev-parse", f"{merge}^2:{name}")
    assert harness.git.text("status", "--porcelain") == ""
    assert harness.leftovers() == []


async def test_filter_that_is_required_and_missing_is_said_and_nothing_lands(harness: RunHarness) -> None:
    harness.make({"a": {}}, files={".gitattributes": "*.bin filter=lfs\n", "big.bin": "version\n"})
    with (harness.top / ".git/config").open("a") as file:
        file.write('[filter "lfs"]\n\tclean = no-git-lfs\n\tsmudge = no-git-lfs\n\trequired = true\n')
    worked = await harness.work()
    assert worked.names == {"a": "Failed"}
    assert "lfs" in worked.view.nodes["a"].reason
    assert harness.log("%s") == ["Begin"]
    assert harness.journal.turns() == []


async def test_submodules_are_there_for_agents_and_verify_after_a_line_of_setup(harness: RunHarness) -> None:
    library = UserCheckout(harness.place / "library")
    library.top.mkdir()
    library.run(
        "git init -q -b main; git config user.name A; git config user.email a@b.c; echo 1 > x; git add -A; git commit -q -m L"
    )
    (harness.place / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n[submodule]\n\trecurse = true\n')
    harness.make(
        CHAIN, "[ -f lib/x ] && work", setup=["git submodule --quiet update --init"], verify=["test -f lib/x", *VERIFY]
    )
    harness.git.run("submodule", "--quiet", "add", str(library.top), "lib")
    harness.git.run("commit", "--quiet", "--amend", "--no-edit")
    await expect_landed(harness)
    assert harness.git.text("status", "--porcelain") == ""
    assert (harness.top / "lib/x").read_text() == "1\n"


# Where the repository is.


@pytest.mark.parametrize(
    "name",
    ["with spaces", "with\nnewline", "ünï-文", "-dash", "100%s", "'quotes'\"$x`", "a" * 100 + "/" + "b" * 120],
    ids=["spaces", "newline", "unicode", "dash", "percent", "quotes", "long"],
)
async def test_repository_lies_at_any_path(harness: RunHarness, name: str) -> None:
    harness.make(CHAIN, verify=VERIFY)
    odd = move_harness(harness, harness.place / name)
    odd.top.parent.mkdir(exist_ok=True)
    harness.top.rename(odd.top)
    await expect_landed(odd)
    assert odd.git.text("status", "--porcelain") == ""


async def test_files_of_any_name_land(harness: RunHarness) -> None:
    write = r"""printf x > 'with space'; printf x > "$(printf 'new\nline')"; printf x > "$(printf '\377latin')"; printf x > -dash
printf x > '100%'; printf x > "it's \"q\""; printf x > 'ünï-文'; printf x > "$(printf 'u\314\210nfd')"; mkdir -p :dir; printf x > ':dir/:(top)'
"""
    harness.make(CHAIN, f"{write}\nwork", verify=VERIFY)
    await expect_landed(harness)
    assert harness.git.text("status", "--porcelain") == ""
    assert len(harness.git.text("ls-tree", "-r", "--name-only", "-z", "main").split("\0")) >= 9


async def test_worktrees_behind_a_symbolic_link_are_refused_before_anything_is_made(harness: RunHarness) -> None:
    harness.make(CHAIN, verify=VERIFY)
    (harness.place / "other").mkdir()
    (harness.top / ".worktrees").symlink_to(harness.place / "other")
    with pytest.raises(InputError, match=r"\.worktrees is a symbolic link"):
        await harness.work()
    assert list((harness.place / "other").iterdir()) == []
    assert harness.git.text("for-each-ref", "--format=%(refname)") == "refs/heads/main"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
async def test_worktrees_on_another_file_system_are_used_and_emptied(harness: RunHarness) -> None:
    harness.make({**CHAIN, "c": {}}, verify=VERIFY)
    below = harness.top / ".worktrees"
    below.mkdir()
    if mount("mount", "-t", "tmpfs", "none", str(below)):
        pytest.skip("mounting is not allowed here")
    try:
        worked = await harness.work()
        assert set(worked.names.values()) == {"Merged"}, worked.view
        assert list(below.iterdir()) == []
    finally:
        mount("umount", str(below))
    assert harness.leftovers() == []


def mount(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode
