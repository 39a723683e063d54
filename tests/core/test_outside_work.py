"""Which places count as outside of a worktree, and what an agent is told about them."""

import pytest

from tasks_lib.session.outside_work import MAX_SAID, describe_outside, find_outside, find_places, warn_agent

WORKTREES = ("/repo/.worktrees/feat/a", "/real/repo/.worktrees/feat/a")


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("/repo/a.txt", "/repo/a.txt"),
        ("../../../a.txt", "/repo/a.txt"),
        ("/repo/.worktrees/feat/ab/x", "/repo/.worktrees/feat/ab/x"),
        ("/repo/.worktrees/feat/a/../b/x", "/repo/.worktrees/feat/b/x"),
        ("a.txt", ""),
        ("/repo/.worktrees/feat/a", ""),
        ("/real/repo/.worktrees/feat/a/x", ""),
        ("/tmp/opencode/notes", ""),
    ],
)
def test_place_is_outside_unless_it_is_the_worktree_or_below(place: str, found: str) -> None:
    assert find_outside([place], WORKTREES, ["/tmp/opencode"]) == ((found,) if found else ())


def test_only_tools_that_change_files_or_run_programs_have_a_place() -> None:
    assert find_places("write", {"filePath": "/x", "content": ""}) == ("/x",)
    assert find_places("bash", {"command": "ls", "workdir": "/x"}) == ("/x",)
    assert find_places("read", {"filePath": "/x"}) == ()
    assert find_places("bash", {"command": "ls"}) == ()
    assert find_places("write", {"filePath": 7}) == ()


def test_places_are_named_once_and_not_too_many() -> None:
    assert describe_outside(["/x", "/x"]) == "/x"
    assert describe_outside(str(number) for number in range(MAX_SAID + 2)).endswith("4 and 2 more")
    assert warn_agent([]) == ""
    assert "- /x changed" in warn_agent(["/x changed"])
