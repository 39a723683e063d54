"""Folders that are not directories, links that lead outside, names that cannot be written, and very many files."""

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile_repository import GOOD, LINK, SUBMODULE, HostileRepository

from tasks_lib.git.repository import Repository
from tasks_lib.graph.run_plan import Plan
from tasks_lib.project.loading import load_project, read_checkout

COMMIT = b"1" * 40


@pytest.mark.parametrize("where", ["/etc", "../outside", "tasks", ".", "nowhere"])
def test_a_task_folder_that_is_a_link_is_refused_wherever_it_leads(hostile: HostileRepository, where: str) -> None:
    hostile.commit({"tasks/good.md": None, "tasks": where}, {"tasks": LINK})
    said = hostile.refuse()
    assert "tasks is a symbolic link" in said.lines[0]
    assert "secret" not in "".join(said.lines)
    assert "that path is a symbolic link" in str(hostile.load()[0])


def test_a_task_folder_below_a_link_is_refused(hostile: HostileRepository) -> None:
    hostile.commit({"work": "../outside", "coordinator.yaml": "tasks_dir: work/deep\n"}, {"work": LINK})
    (hostile.secret / "deep").mkdir()
    assert "work is a symbolic link" in hostile.refuse().lines[0]


def test_a_task_folder_that_became_a_link_in_the_checkout_alone_is_refused(hostile: HostileRepository) -> None:
    (hostile.top / "tasks/good.md").unlink()
    (hostile.top / "tasks").rmdir()
    (hostile.top / "tasks").symlink_to("../outside")
    said = hostile.call("validate")
    assert (said.code, "tasks is a symbolic link" in said.lines[0]) == (2, True)
    # A run reads what is committed, so it is not affected.
    assert hostile.load() == ()


def test_a_task_folder_that_is_a_submodule_is_refused(hostile: HostileRepository) -> None:
    hostile.commit({"tasks/good.md": None, "tasks": COMMIT}, {"tasks": SUBMODULE})
    assert "that path is a submodule" in str(hostile.load()[0])
    inner = hostile.top / "tasks"
    (inner / ".git").write_text("gitdir: ../.git/modules/tasks\n")
    (inner / "x.md").write_bytes(GOOD)
    said = hostile.refuse()
    assert "tasks is a separate repository, such as a submodule" in said.lines[0]


def test_a_task_folder_that_is_a_file_is_refused(hostile: HostileRepository) -> None:
    hostile.commit({"tasks/good.md": None, "tasks": GOOD})
    assert "tasks is not a folder" in hostile.refuse().lines[0]
    assert "that path is a file" in str(hostile.load()[0])


def test_a_task_folder_that_is_absent_is_refused(hostile: HostileRepository) -> None:
    hostile.commit({"tasks/good.md": None, "README.md": b"Nothing.\n"})
    assert "tasks does not exist" in hostile.refuse().lines[0]


def test_links_among_task_files_are_passed_over_and_never_followed(hostile: HostileRepository) -> None:
    links = {
        "tasks/out.md": "../../outside/secret.md", "tasks/root.md": "/etc/passwd", "tasks/circle.md": "circle.md",
        "tasks/self": ".", "tasks/up": "../..", "tasks/away": "../../outside", "tasks/device.md": "/dev/zero",
    }  # fmt: skip
    hostile.commit(dict(links), dict.fromkeys(links, LINK))
    said = hostile.accept()
    assert [line.partition(":")[0] for line in said.lines[:-1]] == [
        "tasks/circle.md", "tasks/device.md", "tasks/out.md", "tasks/root.md",
    ]  # fmt: skip
    assert said.lines[-1] == "1 task file, 0 edges, 4 warnings"
    assert [*load_project(hostile.top).graph.tasks] == ["good"]


def test_looking_writes_no_index_even_where_git_would_refresh_it(hostile: HostileRepository) -> None:
    os.utime(hostile.top / "tasks/good.md", (1, 1))
    hostile.accept()


def test_a_pipe_among_task_files_is_not_waited_for(hostile: HostileRepository) -> None:
    os.mkfifo(hostile.top / "tasks/pipe.md")
    tasks, faults = read_checkout(Repository.open(hostile.top), "tasks")
    assert [task.id for task in tasks] == ["good"]
    assert [str(fault) for fault in faults] == [
        "tasks/pipe.md: warning: is not a regular file, so it is skipped; task files must be regular files"
    ]


def test_a_submodule_among_task_files_is_passed_over(hostile: HostileRepository) -> None:
    hostile.commit({"tasks/sub": COMMIT, "tasks/odd.md": COMMIT}, {"tasks/sub": SUBMODULE, "tasks/odd.md": SUBMODULE})
    hostile.git.run("init", "--quiet", "tasks/sub")
    (hostile.top / "tasks/sub/x.md").write_bytes(GOOD)
    said = hostile.call("validate")
    assert (said.code, said.lines[0].partition(" is ")[0]) == (0, "tasks/sub: warning:")
    warnings = [str(fault).partition(";")[0] for fault in load_project(hostile.top).warnings]
    assert warnings == [
        "tasks/odd.md: warning: is a submodule, so it is skipped",
        "tasks/sub: warning: is a submodule, so it is skipped",
    ]


@pytest.mark.parametrize("name", ["a\nb.md", "a\tb.md", "\x1b[2J.md", "\u202ex.md", "caf\udce9.md", "new\nline/x.md"])
def test_a_file_whose_name_cannot_be_written_is_passed_over_with_a_warning(
    hostile: HostileRepository, name: str
) -> None:
    data = GOOD.replace(b"good", b"other")
    file = Path(os.fsdecode(os.fsencode(f"{hostile.top}/tasks/{name}")))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    hostile.git.run("add", "--all")
    hostile.git.run("commit", "--quiet", "--message", "Odd")
    said = hostile.accept()
    assert len(said.lines) == 2
    assert "so it is skipped; rename it" in said.lines[0]
    assert [*load_project(hostile.top).graph.tasks] == ["good"]
    file.write_bytes(data + b"changed\n")
    assert hostile.call("validate").code == 0
    assert all(fault.path.isprintable() for fault in load_project(hostile.top).warnings)


def test_paths_that_git_itself_would_not_make_are_no_task_files(hostile: HostileRepository) -> None:
    blob = hostile.git.run("hash-object", "-w", "--stdin", stdin=GOOD.replace(b"good", b"evil")).text
    for name in (".git", ".."):
        inner = hostile.git.run("mktree", stdin=f"100644 blob {blob}\tx.md\n".encode()).text
        raw = b"40000 " + name.encode() + b"\0" + bytes.fromhex(inner)
        odd = hostile.git.run("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw).text
        top = hostile.git.run("mktree", stdin=f"040000 tree {odd}\ttasks\n".encode()).text
        commit = hostile.git.text("commit-tree", top, "-m", "Odd")
        hostile.git.run("update-ref", "refs/heads/main", commit)
        assert "so it is skipped" in str(load_project(hostile.top).warnings[0])
        assert [*load_project(hostile.top).graph.tasks] == []


def write_many(count: int, make: Callable[[int], str]) -> dict[str, bytes | str | None]:
    return {f"tasks/{number // 100}/t{number:05}.md": make(number) for number in range(count)}


def make_right(number: int) -> str:
    needed = ", ".join(f"t{one}" for one in {number // 2, number // 3} if one < number)
    return f"---\nid: t{number}\nname: Do {number}\nscope: narrow\ndepends_on: [{needed}]\n---\n## Notes\n"


@contextmanager
def counting() -> Generator[dict[str, int]]:
    """Count function calls and started processes while the block runs."""
    counts = {"calls": 0, "processes": 0}

    def note(_frame: object, event: str, argument: object) -> None:
        counts["calls"] += event in ("call", "c_call")
        counts["processes"] += event == "c_call" and getattr(argument, "__name__", "") == "fork_exec"

    sys.setprofile(note)
    try:
        yield counts
    finally:
        sys.setprofile(None)


def test_reading_and_planning_many_task_files_is_work_that_grows_with_their_number_alone(
    hostile: HostileRepository,
) -> None:
    spent: list[dict[str, int]] = []
    for count in (200, 2_000):
        hostile.commit({"tasks/good.md": None, **write_many(count, make_right)})
        with counting() as counts:
            project = load_project(hostile.top)
            ready = Plan(project.graph).ready()
        assert (len(project.graph.tasks), len(ready)) == (count, 1)
        spent.append(counts)
    few, many = spent
    assert many["processes"] == few["processes"] < 20
    assert many["calls"] < 12 * few["calls"]


def test_ten_thousand_task_files_are_read_and_planned(hostile: HostileRepository) -> None:
    hostile.commit({"tasks/good.md": None, **write_many(10_000, make_right)})
    project = load_project(hostile.top)
    assert len(project.graph.tasks) == 10_000
    assert Plan(project.graph).ready() == ("t0",)


def test_of_ten_thousand_wrong_files_a_hundred_are_said_and_all_can_be_asked_for(hostile: HostileRepository) -> None:
    wrong = write_many(10_000, lambda number: f"---\nid: t{number}\nname: n\ndepends_on: [nobody{number}]\n---\n")
    hostile.commit(wrong)
    before = hostile.digest_files()
    said = hostile.call("validate")
    assert (said.code, len(said.lines)) == (2, 102)
    assert "… and 9900 more from here on; `coordinator validate --json` lists them all" in said.lines[100]
    assert said.lines[101] == "10001 task files, 10000 edges, 10000 errors"
    assert len(hostile.load()) == 101
    every = json.loads("\n".join(hostile.call("validate", "--json").lines))
    assert len(every["faults"]) == 10_000
    assert hostile.digest_files() == before
