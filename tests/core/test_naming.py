"""Which ids are valid, and the names that are made from them."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_lib.model import Task
from tasks_lib.naming import (
    MAX_ID_BYTES,
    find_collision,
    find_id_fault,
    flatten,
    is_resolve_task,
    name_branches,
    name_resolve_task,
    show,
)

PARTS = st.text(alphabet="aAb.-_1", min_size=1, max_size=4)
IDS = st.lists(PARTS, min_size=1, max_size=3).map("/".join).filter(lambda task_id: find_id_fault(task_id) is None)


def make_task(task_id: str, level: str | None = None) -> Task:
    return Task(task_id, task_id, f"tasks/{task_id}.md", level=level)


@pytest.mark.parametrize("task_id", ["a", "graph/construction", "v1.2_x-y", "über", "a@b", "@a", "x" * MAX_ID_BYTES])
def test_plain_ids_are_safe(task_id: str) -> None:
    assert find_id_fault(task_id) is None


@pytest.mark.parametrize(
    "task_id",
    [
        "", "-rf", "a/-b", ".git", "a/.b", "../a", "a/../b", "a..b", "/a", "a/", "a//b", "a b", "a\tb", "a\nb", "a\0b",
        "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a.lock", "a.lock/b", "a.", "a./b", "@", "a/@/b", "a@{1}",
        "x" * (MAX_ID_BYTES + 1), "ß" * MAX_ID_BYTES, "cafe\u0301", "a\u200bb", "\u202ea", "a\u2028b", "a\x85b",
    ],
)  # fmt: skip
def test_id_that_could_leave_its_directory_or_be_an_option_is_refused(task_id: str) -> None:
    assert find_id_fault(task_id)


@given(st.text(alphabet="ab/.-@{~^: \\\x7f*lock", min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_git_accepts_every_valid_id(task_id: str) -> None:
    if find_id_fault(task_id) is None:
        checked = subprocess.run(
            ["git", "check-ref-format", "--branch", f"feat/{task_id}"], capture_output=True, check=False
        )
        assert checked.returncode == 0


@given(st.sets(IDS, max_size=12))
def test_branches_never_collide_as_refs_not_even_by_case(ids: set[str]) -> None:
    names = name_branches((make_task(task_id) for task_id in ids), target="main")
    assert set(names) == ids
    folded = [name.casefold() for name in names.values()]
    assert len(set(folded)) == len(folded)
    assert not any(one.startswith(f"{other}/") for one in folded for other in folded)
    assert all(find_id_fault(name) is None for name in names.values())


@given(st.sets(IDS, max_size=8).flatmap(lambda ids: st.permutations(sorted(ids))))
def test_branch_names_do_not_depend_on_the_order_of_tasks(ids: list[str]) -> None:
    assert name_branches(map(make_task, ids), target="main") == name_branches(
        map(make_task, sorted(ids)), target="main"
    )


def test_research_has_a_prefix_of_its_own() -> None:
    names = name_branches([make_task("a"), make_task("b", "research")], prefix="agents/", target="main")
    assert names == {"a": "agents/a", "b": "research/b"}


def test_id_below_another_becomes_one_flat_part() -> None:
    names = name_branches([make_task("a"), make_task("a/b")], target="main")
    assert names["a"] == "feat/a"
    assert names["a/b"].startswith("feat/a-b.")


def test_no_branch_equals_or_conflicts_with_the_target() -> None:
    for target in ("feat/a", "feat/A", "feat/a/b/c", "feat/a/b"):
        names = name_branches(map(make_task, ("a", "a/b")), target=target)
        assert find_collision(target, names.values()) is None
    assert find_collision("feat", name_branches([make_task("a")], target="feat").values()) is not None


def test_an_id_crafted_to_take_the_branch_of_another_does_not_get_it() -> None:
    ids = ["a", "a/b"]
    for _ in range(3):
        ids.append(name_branches(map(make_task, ids), target="main")["a/b"].removeprefix("feat/"))
        assert len(set(name_branches(map(make_task, ids), target="main").values())) == len(ids)


@pytest.mark.parametrize(("one", "other"), [("caf\xe9", "CAF\xc9"), ("\ufb01x", "fix"), ("stra\xdfe", "strasse")])
def test_look_alikes_get_branches_that_every_file_system_distinguishes(one: str, other: str) -> None:
    first, second = name_branches(map(make_task, (one, other)), target="main").values()
    assert "." not in first
    assert "." in second


def test_resolve_task_of_a_long_id_has_an_id_that_is_safe() -> None:
    for blocked_id in ("x" * MAX_ID_BYTES, "ß" * (MAX_ID_BYTES // 2)):
        first = name_resolve_task(blocked_id, [])
        assert find_id_fault(first) is None
        assert find_id_fault(name_resolve_task(blocked_id, [first])) is None
        assert name_resolve_task(f"{blocked_id[:-1]}y", [first]).endswith("-1")


@given(st.text(max_size=200), st.integers(10, 90))
def test_text_is_shown_on_one_short_line(text: str, chars: int) -> None:
    shown = show(text, chars)
    assert shown.isprintable()
    assert len(shown) <= chars
    assert shown == text or not text.isprintable() or len(text) > chars


def test_resolve_task_takes_the_next_free_number() -> None:
    assert name_resolve_task("team/a", []) == "resolve-team-a-1"
    assert name_resolve_task("team/a", ["resolve-team-a-1", "resolve-team-a-3"]) == "resolve-team-a-2"
    assert is_resolve_task("resolve-team-a-1")
    assert not is_resolve_task("team/resolve-a")


@given(IDS)
def test_flat_name_is_one_path_part(task_id: str) -> None:
    assert "/" not in flatten(task_id)
