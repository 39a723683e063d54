"""Folders that are not directories, links that lead outside, names that cannot be written, and very many files."""

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile_repository import GOOD, LINK, SUBMODULE, Ground

from tasks_lib.git.repository import Repository
from tasks_lib.graph.run_plan import Plan
from tasks_lib.project.loading import load_project, read_checkout

COMMIT = b"1" * 40


@pytest.mark.parametrize("where", ["/etc", "../outside", "tasks", ".", "nowhere"])
def test_a_task_folder_that_is_a_link_is_refused_wherever_it_leads(ground: Ground, where: str) -> None:
    ground.commit({"tasks/good.md": None, "tasks": where}, {"tasks": LINK})
    said = ground.refuse()
    assert "tasks is a symbolic link" in said.lines[0]
    assert "secret" not in "".join(said.lines)
    assert "that path is a symbolic link" in str(ground.load()[0])


def test_a_task_folder_below_a_link_is_refused(ground: Ground) -> None:
    ground.commit({"work": "../outside", "coordinator.yaml": "tasks_dir: work/deep\n"}, {"work": LINK})
    (ground.secret / "deep").mkdir()
    assert "work is a symbolic link" in ground.refuse().lines[0]


def test_a_task_folder_that_became_a_link_in_the_checkout_alone_is_refused(ground: Ground) -> None:
    (ground.top / "tasks/good.md").unlink()
    (ground.top / "tasks").rmdir()
    (ground.top / "tasks").symlink_to("../outside")
    said = ground.call("validate")
    assert (said.code, "tasks is a symbolic link" in said.lines[0]) == (2, True)
    # A run reads what is committed, so it is not affected.
    assert ground.load() == ()


def test_a_task_folder_that_is_a_submodule_is_refused(ground: Ground) -> None:
    ground.commit({"tasks/good.md": None, "tasks": COMMIT}, {"tasks": SUBMODULE})
    assert "that path is a submodule" in str(ground.load()[0])
    inner = ground.top / "tasks"
    (inner / ".git").write_text("gitdir: ../.git/modules/tasks\n")
    (inner / "x.md").write_bytes(GOOD)
    said = ground.refuse()
    assert "tasks is a separate repository, such as a submodule" in said.lines[0]


def test_a_task_folder_that_is_a_file_is_refused(ground: Ground) -> None:
    ground.commit({"tasks/good.md": None, "tasks": GOOD})
    assert "tasks is not a folder" in ground.refuse().lines[0]
    assert "that path is a file" in str(ground.load()[0])


def test_a_task_folder_that_is_absent_is_refused(ground: Ground) -> None:
    ground.commit({"tasks/good.md": None, "README.md": b"Nothing.\n"})
    assert "tasks does not exist" in ground.refuse().lines[0]


def test_links_among_task_files_are_passed_over_and_never_followed(ground: Ground) -> None:
    links = {
        "tasks/out.md": "../../outside/secret.md", "tasks/root.md": "/etc/passwd", "tasks/circle.md": "circle.md",
        "tasks/self": ".", "tasks/up": "../..", "tasks/away": "../../outside", "tasks/device.md": "/dev/zero",
    }  # fmt: skip
    ground.commit(dict(links), dict.fromkeys(links, LINK))
    said = ground.accept()
    assert [line.partition(":")[0] for line in said.lines[:-1]] == [
        "tasks/circle.md", "tasks/device.md", "tasks/out.md", "tasks/root.md",
    ]  # fmt: skip
    assert said.lines[-1] == "1 task file, 0 edges, 4 warnings"
    assert [*load_project(ground.top).graph.tasks] == ["good"]


def test_looking_writes_no_index_even_where_git_would_refresh_it(ground: Ground) -> None:
    os.utime(ground.top / "tasks/good.md", (1, 1))
    ground.accept()


def test_a_pipe_among_task_files_is_not_waited_for(ground: Ground) -> None:
    os.mkfifo(ground.top / "tasks/pipe.md")
    tasks, faults = read_checkout(Repository.open(ground.top), "tasks")
    assert [task.id for task in tasks] == ["good"]
    assert [str(fault) for fault in faults] == [
        "tasks/pipe.md: warning: is not a regular file, so it is skipped; task files must be regular files"
    ]


def test_a_submodule_among_task_files_is_passed_over(ground: Ground) -> None:
    ground.commit({"tasks/sub": COMMIT, "tasks/odd.md": COMMIT}, {"tasks/sub": SUBMODULE, "tasks/odd.md": SUBMODULE})
    ground.git.run("init", "--quiet", "tasks/sub")
    (ground.top / "tasks/sub/x.md").write_bytes(GOOD)
    said = ground.call("validate")
    assert (said.code, said.lines[0].partition(" is ")[0]) == (0, "tasks/sub: warning:")
    warnings = [str(fault).partition(";")[0] for fault in load_project(ground.top).warnings]
    assert warnings == [
        "tasks/odd.md: warning: is a submodule, so it is skipped",
        "tasks/sub: warning: is a submodule, so it is skipped",
    ]


@pytest.mark.parametrize("name", ["a\nb.md", "a\tb.md", "\x1b[2J.md", "\u202ex.md", "caf\udce9.md", "new\nline/x.md"])
def test_a_file_whose_name_cannot_be_written_is_passed_over_with_a_warning(ground: Ground, name: str) -> None:
    data = GOOD.replace(b"good", b"other")
    file = Path(os.fsdecode(os.fsencode(f"{ground.top}/tasks/{name}")))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    ground.git.run("add", "--all")
    ground.git.run("commit", "--quiet", "--message", "Odd")
    said = ground.accept()
    assert len(said.lines) == 2
    assert "so it is skipped; rename it" in said.lines[0]
    assert [*load_project(ground.top).graph.tasks] == ["good"]
    file.write_bytes(data + b"changed\n")
    assert ground.call("validate").code == 0
    assert all(fault.path.isprintable() for fault in load_project(ground.top).warnings)


def test_paths_that_git_itself_would_not_make_are_no_task_files(ground: Ground) -> None:
    blob = ground.git.run("hash-object", "-w", "--stdin", stdin=GOOD.replace(b"good", b"evil")).text
    for name in (".git", ".."):
        inner = ground.git.run("mktree", stdin=f"100644 blob {blob}\tx.md\n".encode()).text
        raw = b"40000 " + name.encode() + b"\0" + bytes.fromhex(inner)
        odd = ground.git.run("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw).text
        top = ground.git.run("mktree", stdin=f"040000 tree {odd}\ttasks\n".encode()).text
        commit = ground.git.text("commit-tree", top, "-m", "Odd")
        ground.git.run("update-ref", "refs/heads/main", commit)
        assert "so it is skipped" in str(load_project(ground.top).warnings[0])
        assert [*load_project(ground.top).graph.tasks] == []


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


def test_reading_and_planning_many_task_files_is_work_that_grows_with_their_number_alone(ground: Ground) -> None:
    spent: list[dict[str, int]] = []
    for count in (200, 2_000):
        ground.commit({"tasks/good.md": None, **write_many(count, make_right)})
        with counting() as counts:
            project = load_project(ground.top)
            ready = Plan(project.graph).ready()
        assert (len(project.graph.tasks), len(ready)) == (count, 1)
        spent.append(counts)
    few, many = spent
    assert many["processes"] == few["processes"] < 20
    assert many["calls"] < 12 * few["calls"]


def test_ten_thousand_task_files_are_read_and_planned(ground: Ground) -> None:
    ground.commit({"tasks/good.md": None, **write_many(10_000, make_right)})
    project = load_project(ground.top)
    assert len(project.graph.tasks) == 10_000
    assert Plan(project.graph).ready() == ("t0",)


def test_of_ten_thousand_wrong_files_a_hundred_are_said_and_all_can_be_asked_for(ground: Ground) -> None:
    wrong = write_many(10_000, lambda number: f"---\nid: t{number}\nname: n\ndepends_on: [nobody{number}]\n---\n")
    ground.commit(wrong)
    before = ground.look()
    said = ground.call("validate")
    assert (said.code, len(said.lines)) == (2, 102)
    assert "… and 9900 more from here on; `coordinator validate --json` lists them all" in said.lines[100]
    assert said.lines[101] == "10001 task files, 10000 edges, 10000 errors"
    assert len(ground.load()) == 101
    every = json.loads("\n".join(ground.call("validate", "--json").lines))
    assert len(every["faults"]) == 10_000
    assert ground.look() == before
