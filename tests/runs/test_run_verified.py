"""Exactly what was verified lands: the worktree matches the commit, and a gate that cannot run lands nothing."""

import subprocess
from collections.abc import Callable, Sequence

import pytest
from run_harness import RunHarness, RunResult, reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.reporting.run_report import ExitCode

TESTED = {"tests/test_all.sh": "test ! -e bad.txt\n", "src/a.txt": "a\n"}
BAD = "echo x > bad.txt; commit bad; echo Done."


def sh(harness: RunHarness, lines: str) -> None:
    subprocess.run(["/bin/sh", "-ec", lines], cwd=harness.top, check=True)


@pytest.mark.parametrize("options", ["src tasks", "--no-cone '/*' '!/tests/'"])
async def test_sparse_checkout_of_a_person_leaves_no_test_out_and_stays_sparse(
    harness: RunHarness, options: str
) -> None:
    verify = ["for one in tests/*.sh; do [ ! -e $one ] || sh $one; done"]
    harness.make(
        {"a": {}, "b": {}},
        f'[ -e tests/test_all.sh ]; [ "$id" = b ] && work || {{ {BAD}; }}',
        verify=verify,
        files=TESTED,
    )
    sh(harness, f"git sparse-checkout set {options}")
    worked = await harness.work()
    assert worked.names == {"a": "Blocked", "b": "Merged"}, worked.lines
    assert not harness.has("bad.txt")
    assert not (harness.top / "tests").exists()
    assert harness.git.text("ls-files", "-v").count("S tests/") == 1
    assert harness.git.text("status", "--porcelain") == ""


# Merges.


def leave_uncommitted(harness: RunHarness) -> None:
    (harness.top / ".gitattributes").write_text("log.txt merge=union\n")


def put_into_info(harness: RunHarness) -> None:
    (harness.top / ".git/info").mkdir(exist_ok=True)
    (harness.top / ".git/info/attributes").write_text("log.txt merge=union\n")


APPEND = 'echo "$id" >> log.txt; commit "feat($id): log"; echo Done.'


@pytest.mark.parametrize("change", [leave_uncommitted, put_into_info])
async def test_conflict_goes_to_its_agent_whatever_attributes_lie_beside_the_commits(
    harness: RunHarness, change: Callable[[RunHarness], None]
) -> None:
    harness.make({"a": {}, "b": {}}, APPEND, files={"log.txt": "first\n"}, land={"give_backs": 0})
    change(harness)
    worked = await harness.work()
    assert sorted(worked.names.values()) == ["Blocked", "Merged"]
    (blocked,) = (one for one, name in worked.names.items() if name == "Blocked")
    assert "log.txt" in worked.view.nodes[blocked].reason


async def test_attributes_of_the_target_count_while_another_branch_is_checked_out(harness: RunHarness) -> None:
    files = {"log.txt": "first\n", ".gitattributes": "log.txt merge=union\n"}
    harness.make({"a": {}, "b": {}}, APPEND, files=files, target="main")
    sh(harness, "git checkout -q -b elsewhere; git rm -q .gitattributes; git commit -q -m Without")
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert sorted(harness.show("log.txt").splitlines()) == ["a", "b", "first"]


# What the worktree does not show.


def count(worked: RunResult, words: str) -> int:
    return sum(words in line for line in worked.lines)


OWN_FILE = "echo $id > $id.txt; git add $id.txt; git commit -q -m $id; echo Done."
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"
LACKING = {
    "a filter that nobody configured": ("*.bin filter=crypt\n", "", "crypt of .gitattributes is not configured"),
    "a filter that fails and is not required": (
        "*.bin filter=crypt\n",
        "git config filter.crypt.smudge no-such-program; git config filter.crypt.clean cat",
        "external filter 'no-such-program' failed",
    ),
    "git-lfs that is not installed": ("*.bin filter=lfs\n", "", "big.bin is a pointer of Git LFS"),
    "git-lfs that skips": (
        "*.bin filter=lfs\n",
        "git config filter.lfs.smudge cat; git config filter.lfs.clean cat",
        "big.bin is a pointer of Git LFS",
    ),
    "line ends": ("*.bin eol=lf\n", "", "big.bin differs from the commit"),
    "a merge driver that nobody configured": ("*.bin merge=theirs\n", "", "merge driver theirs of .gitattributes"),
}


@pytest.mark.parametrize(("attributes", "lines", "said"), LACKING.values(), ids=LACKING.keys())
async def test_what_a_worktree_lacks_of_the_commit_is_said_once(
    harness: RunHarness, attributes: str, lines: str, said: str
) -> None:
    big = POINTER.replace("\n", "\r\n") if "eol" in attributes else POINTER
    harness.make({"a": {}, "b": {}, "c": {}}, OWN_FILE, verify=["true"])
    (harness.top / "big.bin").write_bytes(big.encode())
    sh(harness, "git add big.bin; git commit -q -m Big")
    harness.commit("Attributes", {".gitattributes": attributes})
    sh(harness, f"git status -s > /dev/null; {lines}")
    worked = await harness.work()
    assert set(worked.names.values()) == {"Merged"}, worked.lines
    assert count(worked, said) == 1
    assert worked.code is ExitCode.COMPLETED


async def test_setup_that_changes_files_in_git_is_said_once_and_charged_to_nobody(harness: RunHarness) -> None:
    setup = ["echo changed > lock.txt", "mkdir -p made; echo x > made/by-setup"]
    harness.make({"a": {}, "b": {}}, OWN_FILE,
                setup=setup, verify=["test -e lock.txt"], files={"lock.txt": "locked\n"})  # fmt: skip
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}, worked.lines
    assert count(worked, "`setup` changes tracked files before `verify` runs: lock.txt") == 1
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
    assert harness.show("lock.txt") == "locked\n"
    assert harness.leftovers() == []


UNCLEAN = {
    "line ends": ("*.txt text\n", "", b"one\r\ntwo\r\n"),
    "line ends by name": ("*.txt eol=lf\n", "", b"one\r\ntwo\r\n"),
    "a filter": (
        "*.txt filter=f\n",
        "git config filter.f.clean 'sed s/one/uno/'; git config filter.f.smudge 'sed s/uno/one/'",
        b"one\ntwo\n",
    ),
}


@pytest.mark.parametrize(("attributes", "lines", "data"), UNCLEAN.values(), ids=UNCLEAN.keys())
async def test_file_that_is_changed_as_soon_as_git_has_written_it_is_no_agents(
    harness: RunHarness, attributes: str, lines: str, data: bytes
) -> None:
    agent = "touch mixed.txt; mkdir -p new; echo x > new/$id; git add new; git commit -q -m $id; echo Done."
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, agent, verify=["test -e mixed.txt"])
    (harness.top / "mixed.txt").write_bytes(data)
    sh(harness, "git add mixed.txt; git commit -q -m Mixed")
    harness.commit("Attributes", {".gitattributes": attributes})
    sh(harness, f"touch mixed.txt\n{lines}")
    assert harness.git.text("status", "--porcelain") == " M mixed.txt"
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}, worked.lines
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
    assert count(worked, "mixed.txt differs from the commit as soon as git has written it") == 1
    assert harness.git.run("cat-file", "blob", "main:mixed.txt").stdout == data
    assert harness.leftovers() == []


async def test_file_that_is_unclean_by_itself_and_edited_is_the_agents(harness: RunHarness) -> None:
    agent = '[ "$turn" = 2 ] || echo three >> mixed.txt; [ "$turn" = 1 ] || git checkout -q -- mixed.txt; work_on_new'
    agent = f"work_on_new() {{ echo x > $id-$turn; git add $id-$turn; git commit -q -m $id; echo Done.; }}; {agent}"
    harness.make({"a": {}}, agent)
    (harness.top / "mixed.txt").write_bytes(b"one\r\ntwo\r\n")
    sh(harness, "git add mixed.txt; git commit -q -m Mixed")
    harness.commit("Attributes", {".gitattributes": "*.txt text\n"})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, worked.lines
    assert harness.journal.turns() == ["a-1-1", "a-1-2"]
    assert "mixed.txt" in harness.journal.read("a-1-2")


# The gate.


async def expect_held(harness: RunHarness, *said: str, nodes: Sequence[str] = ("a", "b")) -> RunResult:
    worked = await harness.work()
    assert worked.names == dict.fromkeys(nodes, "Failed"), worked.lines
    assert worked.code is ExitCode.BLOCKED
    assert count(worked, "The merge queue is on hold. The gate is broken:") == 1, worked.lines
    for words in said:
        assert count(worked, words) >= 1, worked.lines
    assert count(worked, "given back") == 0
    assert harness.journal.turns() == [f"{one}-1-1" for one in nodes]
    assert harness.log("%s") == ["Begin"]
    return worked


BROKEN: dict[str, tuple[list[str], dict[str, str], str]] = {
    "a program that is not there": (["no-such-runner --all"], {}, "no-such-runner: not found"),
    "a program that cannot be run": (["./run.sh"], {"run.sh": "true\n"}, "Permission denied"),
    "make that finds no program": (
        ["make test"],
        {"Makefile": "test:\n\t@no-such-runner\n"},
        "Error 127",
    ),
    "make without the rule": (["make test"], {"Makefile": "all:\n\ttrue\n"}, "No rule to make target"),
    "a module that is not there": (["python3 -m no_such_runner"], {}, "No module named no_such_runner"),
    "a script that is not there": (["sh tests/run.sh"], {}, "tests/run.sh"),
    "a runner that found nothing and says so": (["echo 'no tests ran in 0.00s'; exit 5"], {}, "it ran no test"),
    "a runner that says how long it took": (['echo "no tests ran in 0.$$s"; exit 5'], {}, "it ran no test"),
    "a runner that found nothing and is content": (
        ["python3 -m unittest discover -s src -t ."],
        {"src/__init__.py": ""},
        "",
    ),
    "two that found nothing": (["echo 1..0", "echo 'running 0 tests'"], {}, "runs no test (1..0)"),
}


@pytest.mark.parametrize(("verify", "files", "said"), BROKEN.values(), ids=BROKEN.keys())
async def test_gate_that_cannot_run_holds_the_queue_and_blames_nobody(
    harness: RunHarness, verify: list[str], files: dict[str, str], said: str
) -> None:
    harness.make({"a": {}, "b": {}}, verify=verify, files=files)
    await expect_held(harness, said)


async def test_wrapper_that_is_not_there_when_work_is_verified_holds_the_queue(harness: RunHarness) -> None:
    wrapper = harness.place / "wrapper"
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    harness.make({"a": {}}, f"work; rm -f {wrapper}", verify=["true"], wrapper=[str(wrapper)])
    await expect_held(harness, "could not be started", nodes=["a"])


async def test_wrapper_that_goes_after_work_has_landed_blames_nobody(harness: RunHarness) -> None:
    wrapper = harness.place / "wrapper"
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    agent = f"work; [ $id = a ] || rm -f {wrapper}"
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, agent, verify=["true"], wrapper=[str(wrapper)])
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Failed"}
    assert count(worked, "The merge queue is on hold. The gate is broken:") == 1, worked.lines
    assert count(worked, "given back") == 0


async def test_branch_that_takes_the_tests_away_has_them_given_back(harness: RunHarness) -> None:
    verify = ["for one in tests/*.sh; do [ ! -e $one ] || echo 'ok 1'; done; [ -e tests/test_all.sh ] || echo 1..0"]
    agent = '[ "$turn" = 1 ] && git rm -q -r tests || git checkout -q HEAD^ -- tests; work'
    harness.make({"a": {}}, agent, verify=verify, files=TESTED)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-2"]
    assert "ran no test (1..0), although it runs some without this work" in harness.journal.read("a-1-2")
    assert harness.has("tests/test_all.sh")


async def test_branch_that_takes_the_runner_away_has_it_given_back(harness: RunHarness) -> None:
    agent = '[ "$turn" = 1 ] && git rm -q run.sh || git checkout -q HEAD^ -- run.sh; work'
    harness.make({"a": {}}, agent, verify=["sh run.sh"], files={"run.sh": "true\n"})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-2"]


async def test_first_tests_of_a_project_land_and_then_so_does_what_was_held(harness: RunHarness) -> None:
    verify = ["for one in tests/*.sh; do [ -e $one ] && echo 'ok 1' || echo 1..0; done"]
    agent = '[ "$id" = a ] || { await held; mkdir tests; echo true > tests/b.sh; }; work'
    harness.make({"a": {}, "b": {}}, agent, verify=verify, signals=["held"])

    async def let_b_end(opened: OpenRun) -> None:
        await reach(opened, ": The merge queue is on hold.")
        harness.signals["held"].send()

    worked = await harness.work(during=let_b_end)
    assert worked.names == {"a": "Merged", "b": "Merged"}, worked.lines
    assert worked.code is ExitCode.COMPLETED


async def test_runner_without_tests_beside_another_check_lands_with_a_word(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, verify=["test -e README.md", "echo 1..0"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}, worked.lines
    assert count(worked, "`echo 1..0` of `verify` runs no test (1..0); only its other lines check what lands.") == 1


async def test_linter_as_the_only_gate_is_none_of_that(harness: RunHarness) -> None:
    harness.make({"a": {}}, verify=["echo All checks passed!"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert count(worked, "no test") == 0


async def test_commit_that_cannot_be_checked_out_holds_the_queue_or_goes_back(harness: RunHarness) -> None:
    """A required filter breaks once agents have their worktrees; no node's work is at fault."""
    harness.make(
        {"a": {}}, f"echo y > x.bin; work; echo false > {harness.place}/filter", verify=["true"], files={"x.bin": "x\n"}
    )
    (harness.place / "filter").write_text("cat\n")
    harness.git.run("config", "filter.f.smudge", f"sh {harness.place}/filter")
    harness.git.run("config", "filter.f.clean", "cat")
    harness.git.run("config", "filter.f.required", "true")
    harness.commit("Filter", {".gitattributes": "*.bin filter=f\n"})
    worked = await harness.work()
    assert worked.names == {"a": "Failed"}
    assert count(worked, "The merge queue is on hold. The gate is broken: `git checkout") == 1, worked.lines
    assert harness.journal.turns() == ["a-1-1"]


async def test_store_that_an_agent_borrows_objects_from_holds_the_queue(harness: RunHarness) -> None:
    """Commits that rely on its objects would break once it is gone."""
    other = harness.place / "other"
    borrow = f"echo {other}/.git/objects >> $(git rev-parse --git-path objects/info/alternates)"
    harness.make({"a": {}}, f"git init -q {other}; {borrow}; work", verify=["true"])
    worked = await harness.work()
    assert worked.names == {"a": "Failed"}, worked.lines
    assert count(worked, "; remove that line. Nothing lands until that works") == 1
    assert harness.log("%s") == ["Begin"]


async def test_verify_that_is_killed_once_is_tried_again_and_charged_to_nobody(harness: RunHarness) -> None:
    killed = harness.place / "killed"
    harness.make({"a": {}}, verify=[f"[ -e {killed} ] || {{ touch {killed}; kill -9 $$; }}"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, worked.lines
    assert harness.journal.turns() == ["a-1-1"]


async def test_verify_that_is_always_killed_holds_the_queue(harness: RunHarness) -> None:
    harness.make({"a": {}}, verify=["kill -9 $$"])
    await expect_held(harness, "because memory ran out", nodes=["a"])
