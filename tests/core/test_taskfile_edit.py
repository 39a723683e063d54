"""Edits of front matter change only the intended lines, and the file reads back as intended."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_lib.errors import InputError
from tasks_lib.model import Status, Task
from tasks_lib.taskfile.parsing import add_dependency, decode, encode, parse_task, set_status

NAMES = [
    ["name: Set up"],
    ["name: 'It''s set up'   # why"],
    ['name: "Größe: 日本 😀"'],
    ["name: Set up", "  and more of it", "", "  after a blank line"],
    ["name: >-", "  Folded", "  text", "", "# a comment below it"],
    ["name: |", "  Kept", ""],
    ["title: By its alias"],
]
STATUSES = [
    [],
    ["status:"],
    ["status:   # unset"],
    ["status: ~ # null"],
    ["status: pending"],
    ["status:   in_progress   # was: pending"],
    ["status: 'blocked' # quoted"],
    ['status: "In Progress"'],
    ["status:", "  failed"],
    ["status: >-", "  pending"],
    ['"status": pending'],
]
LISTS = [
    [],
    ["depends_on:"],
    ["depends_on: # none yet"],
    ["depends_on: null"],
    ["depends_on: []"],
    ["depends_on: [ ] # none"],
    ["depends_on: [", "  # first", "]"],
    ["depends_on: [a, 'b/c'] # two"],
    ["dependsOn: [a,b,]"],
    ["depends_on: [a,", "    b,   # why b", "  ]"],
    ["depends_on: [", "  a, # why a", '  "b" # why b', "  , ]"],
    ["depends_on:", "- a", "- b"],
    ["depends_on:", "    - a # why a", "    # between", "    -   'b'  # why b", "    # after"],
    ["dependsOn:", "  - a", "", "  - b/c.d", ""],
    ["depends_on: # below", "", " - a"],
]
OTHERS = [
    ["priority: high  "],
    ["# a comment"],
    [""],
    ["tags: [x, y]"],
    ["x-note: |", "  status: pending", "  - a"],
    ["level: review"],
]
ENDINGS = st.sampled_from(["\n", "\r\n"])
BODY = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=12), max_size=4)
IDS = st.sampled_from(
    ["new", "new/deep.er-1", "on", "null", "1e3", "12", "2024-01-01", "größe", "it's", "a,b", "x#y", "{z}", "!t", "y"]
)


@st.composite
def task_texts(draw: st.DrawFn) -> str:
    keys = draw(
        st.permutations([["id: my/task"], *(draw(st.sampled_from(kind)) for kind in (NAMES, STATUSES, LISTS, OTHERS))])
    )
    indent = draw(st.sampled_from(["", "", "  "]))
    block = [f"{indent}{line}" if line else line for key in keys for line in key]
    lines = ["---", *block, "---" + draw(st.sampled_from(["", "  "])), *draw(BODY)]
    style = draw(st.sampled_from(["lf", "crlf", "mixed"]))
    ending = {"lf": st.just("\n"), "crlf": st.just("\r\n"), "mixed": ENDINGS}[style]
    text = "".join(line + draw(ending) for line in lines)
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    return draw(st.sampled_from(["", "\ufeff"])) + text


def read(text: str) -> Task:
    task, faults = parse_task(encode(text), "tasks/t.md")
    assert task is not None, faults
    return task


def difference(old: str, new: str) -> tuple[list[str], list[str]]:
    """The lines of both texts that remain after removing equal lines at both ends."""
    before, after = old.split("\n"), new.split("\n")
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return before, after


@settings(max_examples=300, deadline=None)
@given(task_texts(), st.sampled_from(Status))
def test_setting_a_status_changes_its_line_and_nothing_else(text: str, status: Status) -> None:
    old = read(text)
    new_text = set_status(text, status)
    assert read(new_text) == replace(old, status=status)
    assert read(new_text).extra == old.extra
    before, after = difference(text, new_text)
    has_status = "status" in old.lines
    is_folded = any("status: >-" in line for line in before)
    assert len(before) <= (2 if is_folded else 1 if has_status else 0)
    assert len(after) <= 1
    for line in before:
        assert line.partition("#")[2] in after[0]
        assert line.endswith("\r") == after[0].endswith("\r") or is_folded
        assert line.count('"') == after[0].count('"')
    assert set_status(new_text, status) == new_text


@settings(max_examples=400, deadline=None)
@given(task_texts(), IDS)
def test_adding_a_dependency_changes_one_line_and_nothing_else(text: str, task_id: str) -> None:
    old = read(text)
    new_text = add_dependency(text, task_id)
    assert read(new_text) == replace(old, depends_on=(*old.depends_on, task_id))
    assert read(new_text).extra == old.extra
    before, after = difference(text, new_text)
    assert len(before) <= 1
    assert len(after) == 1
    for line in before:
        assert line.partition("#")[2] in after[0]
        assert line.endswith("\r") == after[0].endswith("\r")
    assert add_dependency(new_text, task_id) == new_text


@settings(max_examples=200, deadline=None)
@given(task_texts(), st.lists(IDS, max_size=4), st.sampled_from(Status))
def test_edits_can_be_combined(text: str, ids: list[str], status: Status) -> None:
    old = read(text)
    for task_id in ids:
        text = add_dependency(text, task_id)
    wanted = (*old.depends_on, *dict.fromkeys(ids))
    assert read(set_status(text, status)) == replace(old, depends_on=wanted, status=status)


PIECES = [
    *"ab:-,[]{}#&*!|>?'\"%@`~ \t\r\n\x85",
    "id: a\n",
    "name: b\n",
    "status",
    "depends_on",
    ": ",
    "\n- ",
    "\n  ",
    "\n---\n",
]
YAMLISH = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["", "id: a\nname: b\n"]), YAMLISH, IDS)
def test_an_edit_of_any_text_is_refused_or_reads_back(start: str, block: str, task_id: str) -> None:
    text = f"---\n{start}{block}\n---\nbody"
    try:
        new_text = add_dependency(set_status(text, Status.BLOCKED), task_id)
    except InputError:
        return
    task, _ = parse_task(encode(new_text), "t.md")
    assert task is None or (task.status is Status.BLOCKED and task_id in task.depends_on)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_decoding_keeps_every_byte(data: bytes) -> None:
    assert encode(decode(data)) == data


def test_status_goes_below_a_name_of_several_lines() -> None:
    text = "---\nid: a\nname: >-\n  one\n  two\ntags: [x]\n---\n"
    assert set_status(text, Status.FAILED) == "---\nid: a\nname: >-\n  one\n  two\nstatus: failed\ntags: [x]\n---\n"


def test_status_keeps_its_comment_and_its_quotes() -> None:
    text = "---\nid: a\nname: b\nstatus:  'pending'   # why\n---"
    assert set_status(text, Status.IN_PROGRESS) == "---\nid: a\nname: b\nstatus:  'in-progress'   # why\n---"


def test_front_matter_in_braces_is_edited_in_place() -> None:
    text = "---\n{id: a, name: b}\n---\n"
    assert set_status(text, Status.FAILED) == "---\n{id: a, name: b, status: failed}\n---\n"
    assert add_dependency(text, "c") == "---\n{id: a, name: b, depends_on: [c]}\n---\n"


def test_a_block_list_grows_in_its_own_column_and_line_ending() -> None:
    text = "---\r\nid: a\r\nname: b\r\ndepends_on:\r\n    - x # why\r\n    # end\r\n---\r\n"
    assert add_dependency(text, "on") == text.replace("# why\r\n", "# why\r\n    - 'on'\r\n")


def test_bytes_that_are_not_utf8_survive_an_edit() -> None:
    data = b"---\nid: a\nname: b\n---\n\xff\xfe\r\n"
    assert (
        encode(set_status(decode(data), Status.BLOCKED)) == b"---\nid: a\nname: b\nstatus: blocked\n---\n\xff\xfe\r\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "no front matter",
        "---\nid: a\n",
        "---\nid: [a\n---\n",
        "---\nid: a\nstatus: &x pending\n---\n",
        "---\n- id\n---\n",
        "---\nx: y\n---\n",
    ],
)
def test_text_that_cannot_be_edited_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InputError, match=r"task file:\d+: "):
        set_status(text, Status.BLOCKED)


@pytest.mark.parametrize("value", ["a", "{a: b}", "[[a]]", "\n  - [a]", "[a: b]"])
def test_a_dependency_is_not_added_to_a_value_that_is_not_a_list_of_ids(value: str) -> None:
    with pytest.raises(InputError, match="depends_on is not a list of ids"):
        add_dependency(f"---\nid: a\nname: b\ndepends_on: {value}\n---\n", "c")
