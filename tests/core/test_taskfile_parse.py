"""Parsing of task files: every fault is reported at once, with its line and the fix."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_lib.model import Impact, Risk, Scope, Status
from tasks_lib.taskfile.parsing import get_section, parse_task, render_task
from tasks_lib.yaml_nodes import find_tag, quote, read_yaml, to_value

PATH = "tasks/api.md"


def faults(block: str) -> list[str]:
    """The faults of a task file whose front matter contains an id and a name (lines 2 and 3), then `block`."""
    task, found = parse_task(f"---\nid: api\nname: The API\n{block}\n---\n".encode(), PATH)
    assert (task is None) == any(not fault.is_warning for fault in found)
    return [str(fault) for fault in found]


def test_a_task_file_is_read_whole_with_its_lines() -> None:
    data = (
        b"\xef\xbb\xbf--- \r\nid: graph/api  # why\r\nname: 'The\r\n  API'\r\nstatus: In Progress\r\ndepends_on:\r\n- a\r\n\r\n- b/c\r\n"
        b"scope: BROAD\r\nrisk: high\r\nimpact: phase\r\nlevel: Review\r\npriority: 1\r\nassignee: Human\r\ntags: [x, 2]\r\n"
        b"due: 2024-01-02\r\nowner: {name: z, size: 0x10, ok: yes, none: }\r\n---\r\nbody\r\n"
    )
    task, found = parse_task(data, PATH, "abc")
    assert found == ()
    assert task is not None
    assert (task.id, task.name, task.path, task.blob) == ("graph/api", "The API", PATH, "abc")
    assert (task.status, task.scope, task.risk, task.impact) == (
        Status.IN_PROGRESS,
        Scope.BROAD,
        Risk.HIGH,
        Impact.PHASE,
    )
    assert (task.level, task.priority, task.tags, task.is_human) == ("review", "1", ("x", "2"), True)
    assert task.depends_on == ("a", "b/c")
    assert task.dependency_lines == {"a": 7, "b/c": 9}
    assert task.lines["status"] == 5
    assert task.lines["owner"] == 18
    assert task.extra == {"due": "2024-01-02", "owner": {"name": "z", "size": 16, "ok": True, "none": None}}


@pytest.mark.parametrize("data", [b"", b"# Title\n", b"\n---\nid: a\n---\n", b"----\n", b"--- x\n", b"\xff\xfe"])
def test_a_file_without_front_matter_is_ignored(data: bytes) -> None:
    assert parse_task(data, PATH) == (None, ())


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("status: compelted", '4: status "compelted" is not known; use pending, in-progress, completed, failed or blocked. Did you mean "completed"?'),
        ("x:\nrisk: hgih", '5: risk "hgih" is not known; use trivial, low, medium, high or critical. Did you mean "high"?'),
        ("impact: wide", '4: impact "wide" is not known; use isolated, component, phase or project'),
        ("scope: [broad]", "4: scope is a list; write a single text value"),
        ("level: reserch", '4: warning: level "reserch" is not a standard level and is used as given. Did you mean "research"?'),
        ("depends_on: a", "4: depends_on is not a list; write `depends_on: [a]`"),
        ("depends_on: a, b/c", "4: depends_on is not a list; write `depends_on: [a, b/c]`"),
        ("depends_on: a b", "4: depends_on is not a list; write `depends_on: [a, b]`"),
        ("tags: x, z", "4: tags is not a list; write `tags: [x, z]`"),
        ("tags: good first issue, x", "4: tags is not a list; write `tags: ['good first issue, x']`"),
        ("depends_on: [a, 1]", '4: depends_on item 1 is a number in YAML; quote it: `"1"`'),
        ("depends_on:\n- a\n-", "6: depends_on contains an empty item; remove it"),
        ("depends_on:\n- a: b", "5: depends_on contains a mapping; write one id per item"),
        ("depends_on:\n- a\n- b\n- a", '7: warning: depends_on names "a" twice, first on line 5; remove one'),
        ("depends_on: [b,\n api]", '5: depends_on names the task itself, "api"; remove it'),
        ("depends_on: [a]\ndependsOn: [b]", "5: depends_on and dependsOn are both given (lines 4 and 5); keep one list"),
        ("dependson: [a]", '4: warning: "dependson" is ignored; write `depends_on` if this task should wait for others'),
        ("assignee: 2024-01-01", '4: assignee 2024-01-01 is a date in YAML; quote it: `assignee: "2024-01-01"`'),
        ("tags: x", "4: tags is not a list; write `tags: [x]`"),
        ("model: sonnet", '4: model "sonnet" is not provider/model; write it as `opencode models` lists it, or remove it'),
        ("model: 3", '4: model 3 is a number in YAML; quote it: `model: "3"`'),
        ("x:\nmodel: a b/c", '5: model "a b/c" is not provider/model; write it as `opencode models` lists it, or remove it'),
        ("name: again", '4: "name" is given twice, first on line 3; remove one'),
        ("x: *bold*", "4: the front matter is not valid YAML: did not find expected alphabetic or numeric character (while scanning an alias); quote a value that starts with * or &"),
        ("x: *bold", "4: the alias *bold is not allowed; write out the value, or quote it if the * is literal"),
        ("x: &a [y]", "4: the anchor &a is not allowed; remove it, or quote the value if the & is literal"),
        ("x: !!python/name:os.system ''", "4: the tag !!python/name:os.system is not allowed; write the value without it, in quotes if it is text"),
        ("? [a]\n: b", "4: a list or a mapping cannot be a key; write a word before the colon"),
        ("x: a: b", "4: the front matter is not valid YAML: mapping values are not allowed in this context; quote a value that contains ': '"),
        ("x: \x07", "4: the front matter contains the character '\\x07'; remove it"),
        ("x: a\u2028y: b", "4: the front matter contains the character '\\u2028'; remove it"),
        ("x: a\x85y: b", "4: the front matter contains the character '\\x85'; remove it"),
        ("x: a\ry: b", "4: the front matter contains the character '\\r'; remove it"),
        ("x: " + "[" * 40, "4: the front matter is nested more than 32 levels deep; flatten it"),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what_to_do(block: str, fault: str) -> None:
    assert faults(block) == [f"{PATH}:{fault}"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"---\nname: x\n---\n", "1: has no id; add a line such as `id: api`"),
        (b"---\nid:\nname: x\n---\n", "2: id is empty; give the task a unique id"),
        (b"---\nid: 1\nname: x\n---\n", '2: id 1 is a number in YAML; quote it: `id: "1"`'),
        (b"---\nid: a\n---\n", "1: has no name; add a line such as `name: Describe the task`"),
        (b"---\nid: a\nname: ' '\n---\n", "3: name is empty; describe the task in a few words"),
        (b"---\nid: a\nname: x\n", "1: the front matter is never closed; add a `---` line below its last key"),
        (b"---\nid: a\nname: x\n---\n\n\xe9\n", "6: the byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("---\nid: a\n".encode("utf-16"), "1: is UTF-16; save it as UTF-8"),
        (b"---\n- a\n---\n", "2: the front matter is not a mapping; write lines of `key: value`"),
        (b"---\nid: a\n--- \nname: x\n", "1: has no name; add a line such as `name: Describe the task`"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(data: bytes, fault: str) -> None:
    task, found = parse_task(data, PATH)
    assert task is None
    assert [str(one) for one in found] == [f"{PATH}:{fault}"]


@pytest.mark.parametrize("task_id", ["../up", "-x", "a b", "a..b", "a/.git", "x.lock", "a//b", "@"])
def test_an_unsafe_id_is_refused(task_id: str) -> None:
    _, found = parse_task(f"---\nid: '{task_id}'\nname: x\n---\n".encode(), PATH)
    assert [fault.line for fault in found] == [2]
    assert "use letters and digits" in found[0].message


def test_all_faults_are_named_at_once_in_order() -> None:
    data = b"---\nid: 3\nstatus: x\nrisk: y\nfoo: *z\ndepends_on: b\n---\n"
    assert [fault.line for fault in parse_task(data, PATH)[1]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("model", ["", "anthropic/claude-sonnet-4-5", "openrouter/openai/gpt-5:free"])
def test_a_task_names_its_model(model: str) -> None:
    task, found = parse_task(f"---\nid: a\nname: x\nmodel: {model}\n---\n".encode(), PATH)
    assert found == ()
    assert task is not None
    assert (task.model, "model" in task.extra) == (model, False)


def test_nulls_count_as_not_given_and_name_wins_over_title() -> None:
    block = "title: Other\nstatus:\ndepends_on: ~\ndependsOn: [a]\nscope: null\nlevel:\nassignee:\ntags:"
    task, found = parse_task(f"---\nid: api\nname: The API\n{block}\n---\n".encode(), PATH)
    assert found == ()
    assert task is not None
    assert (task.name, task.status, task.depends_on, task.scope, task.level) == (
        "The API",
        Status.PENDING,
        ("a",),
        None,
        None,
    )
    assert "title" not in task.extra


@pytest.mark.parametrize("word", ["in-progress", "in_progress", "In Progress", "'IN_PROGRESS'"])
def test_a_status_is_understood_as_people_spell_it(word: str) -> None:
    task, _ = parse_task(f"---\nid: a\nname: b\nstatus: {word}\n---\n".encode(), PATH)
    assert task is not None
    assert task.status is Status.IN_PROGRESS


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_reading_never_raises_on_any_bytes(data: bytes, has_front: bool) -> None:
    task, found = parse_task(b"---\n" + data + b"\n---\n" if has_front else data, PATH)
    assert task is None or not any(not fault.is_warning for fault in found)


PIECES = [
    *"ab01:-,[]{}#&*!|>?'\"%@`~ \t\r\n\x85\u2028\ud800\0",
    "id: a\n",
    "name: b\n",
    "status",
    "depends_on",
    ": ",
    "\n- ",
    "\n  ",
    "\n...\n",
    "\\U",
]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)))
def test_reading_never_raises_on_any_front_matter_and_names_lines_inside_it(block: str) -> None:
    text = f"---\nid: a\nname: b\n{block}\n---\n"
    _, found = parse_task(text.encode("utf-8", "surrogatepass"), PATH)
    assert all(1 <= fault.line <= text.count("\n") for fault in found)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_the_reader_in_python_agrees_with_libyaml(block: str) -> None:
    fast, fast_faults = read_yaml(block, PATH)
    slow, slow_faults = read_yaml(block, PATH, loader=yaml.SafeLoader)
    if fast is not None and slow is not None:
        assert to_value(fast) == to_value(slow)
        assert fast_faults == slow_faults


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=20), st.lists(st.sampled_from(PIECES), max_size=4).map("".join)))
def test_quoted_text_reads_back_in_every_kind_of_list(text: str) -> None:
    wanted = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    table, found = read_yaml(
        f"a: {quote(text)} # c\nb: [{quote(text)}, {{c: {quote(text)}}}]\nd:\n- {quote(text)}\n", PATH
    )
    assert found == ()
    assert table is not None
    assert to_value(table) == {"a": wanted, "b": [wanted, {"c": wanted}], "d": [wanted]}
    assert "\n" not in quote(text)


@pytest.mark.parametrize(
    "word", ["on", "Null", "1e3", "012", "2024-01-01", "y", "", "a: b", "- a", "~", "=", "<<", "12:30"]
)
def test_a_word_that_yaml_reads_as_something_else_is_quoted(word: str) -> None:
    assert quote(word)[0] in "'\""


def test_plain_words_are_not_quoted() -> None:
    assert [quote(word) for word in ("auth-setup", "graph/api.v2", "make test")] == [
        "auth-setup",
        "graph/api.v2",
        "make test",
    ]
    assert find_tag("make test") == "str"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.lists(st.sampled_from(["a", "on", "b/c", "1", "ü"]), unique=True), st.text(max_size=20))
def test_a_rendered_task_reads_back(name: str, depends_on: list[str], note: str) -> None:
    text = render_task(
        "resolve-x-1",
        f"N{name}",
        status=Status.BLOCKED,
        level="review",
        assignee="human",
        depends_on=depends_on,
        body=f"## Notes\n\n{note}",
    )
    task, found = parse_task(text.encode(), PATH)
    assert found == ()
    assert task is not None
    assert task.name.startswith("N")
    assert task.name == " ".join(task.name.split())
    assert (task.id, task.status, task.level, task.is_human) == ("resolve-x-1", Status.BLOCKED, "review", True)
    assert task.depends_on == tuple(depends_on)
    assert get_section(text, "Notes") is not None


def test_a_rendered_task_looks_hand_written() -> None:
    text = render_task(
        "resolve-a-1", "Unblock a: the key", assignee="human", depends_on=["b"], body="## Description\ntext\n"
    )
    assert text == (
        "---\nid: resolve-a-1\nname: 'Unblock a: the key'\nstatus: pending\nassignee: human\ndepends_on: [b]\n---\n\n"
        "## Description\ntext\n"
    )


@pytest.mark.parametrize(
    ("value", "is_cut"),
    [
        ("Close #12 and #13", True),
        ("Close #later", True),
        ("'Close #12'", False),
        ("Close  # an issue", False),
        ("C#", False),
    ],
)
@pytest.mark.parametrize("key", ["name", "title"])
def test_name_that_ends_at_a_number_sign_is_warned_of(key: str, value: str, *, is_cut: bool) -> None:
    task, faults = parse_task(f"---\nid: a\n{key}: {value}\n---\n".encode(), PATH)
    assert task is not None
    said = f'3: warning: {key} ends before "{value.removeprefix("Close ")}", which is a comment in YAML'
    assert any(said in str(fault) for fault in faults) == is_cut, faults
    assert len(faults) == is_cut
