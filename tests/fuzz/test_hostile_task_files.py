"""Hostile task files: each is refused with one clear line, and nothing is created."""

import json
import unicodedata

import pytest
from hostile_input import encode, quote_yaml
from hostile_repository import GOOD, HostileRepository, Said
from hostile_values import BOMB, MERGES

from tasks_lib.project.loading import load_project

IDS = {
    "up": "../x", "two dots": "..", "one dot": ".", "here": "./a", "root": "/etc/x", "empty part": "a//b", "last slash": "a/",
    "middle up": "a/../../b", "git": "a/.git/config", "hidden": ".worktrees/x", "option": "-x", "long option": "--help",
    "option below": "a/-x", "backslash": "a\\b", "drive": "C:\\x", "nul": "a\0b", "newline": "a\nb", "tab": "a\tb",
    "lock": "a.lock", "lock above": "a.lock/b", "last dot": "a.", "last dot above": "a./b", "at": "@", "at below": "a/@",
    "at brace": "@{", "earlier": "@{-1}", "tilde": "a~1", "caret": "a^", "colon": "a:b", "question": "a?", "star": "a*",
    "bracket": "[a]", "space": "a b", "long": "x" * 151, "huge": "x" * 100_000, "long in bytes": "\U0001f600" * 60,
    "apart": "cafe\u0301", "unseen": "a\u200bb", "turned": "\u202egnp.exe", "line": "a\u2028b", "next line": "a\x85b",
    "mark": "\ufeffa", "colour": "\x1b[31mred", "empty": "", "blank": " ",
}  # fmt: skip
FRONT = "---\nid: {}\nname: n\n{}\n---\n"
CONTENTS: dict[str, tuple[bytes, int, str]] = {
    "an alias bomb": (b"---\n" + BOMB.encode() + b"---\n", 2, "the anchor &a is not allowed"),
    "a bomb of merges": (b"---\n" + MERGES.encode() + b"---\n", 2, "the anchor &a is not allowed"),
    "a list in itself": (FRONT.format("a1", "x: &a [*a]").encode(), 4, "the anchor &a is not allowed"),
    "an object": (FRONT.format("a2", "x: !!python/object/apply:os.system [id]").encode(), 4, "the tag !!python/object"),
    "a tag as long as a page": (FRONT.format("a3", f"x: !{'t' * 5000} y").encode(), 4, "is not allowed"),
    "a key twice": (FRONT.format("a4", "name: m").encode(), 4, '"name" is given twice'),
    "a key without a colon": (FRONT.format("a5", "? status").encode(), 4, '"status" has no colon'),
    "a binary": (b"---\nid: a6\nname: n\0\n---\n", 3, "contains the character '\\x00'"),
    "not UTF-8": (b"---\nid: a7\nname: caf\xe9\n---\n", 3, "0xe9 is not UTF-8"),
    "not UTF-8 in the body": (b"---\nid: a8\nname: n\n---\n\n\xff\n", 6, "0xff is not UTF-8"),
    "UTF-16": ("---\nid: a9\nname: n\n---\n".encode("utf-16"), 1, "is UTF-16"),
    "never closed": (b"---\nid: b1\nname: n\n", 1, "is never closed"),
    "dashes alone": (b"---", 1, "is never closed"),
    "dashes and nothing": (b"---\n---\n", 1, "has no id"),
    "ten thousand brackets": (FRONT.format("b2", "x: " + "[" * 10_000).encode(), 4, "nested more than 32"),
    "ten thousand dashes": (FRONT.format("b3", "x:\n" + "- " * 10_000).encode(), 5, "nested more than 32"),
    "ten megabytes": (FRONT.format("b4", "") .encode() + b"x" * 10_000_000, 0, "more than 1000000 bytes"),
    "a million dependencies": (FRONT.format("b5", f"depends_on: [{'a,' * 1_000_000}]").encode(), 0, "more than 1000000"),
    "a hundred thousand dependencies": (FRONT.format("b6", f"depends_on: [{'ab,' * 100_000}]").encode(), 1, "the limit is 200000"),
    "itself": (FRONT.format("b7", "depends_on: [b7]").encode(), 4, "names the task itself"),
    "a number as id": (FRONT.format("1", "").encode(), 2, "id 1 is a number in YAML"),
    "a date as id": (FRONT.format("2024-01-01", "").encode(), 2, "is a date in YAML"),
    "a list as id": (FRONT.format("[a]", "").encode(), 2, "id is a list"),
    "a mapping as id": (FRONT.format("{a: b}", "").encode(), 2, "id is a mapping"),
    "null as id": (FRONT.format("~", "").encode(), 2, "id is empty"),
    "a number as name": (b"---\nid: c1\nname: 1\n---\n", 3, "name 1 is a number in YAML"),
    "a list as name": (b"---\nid: c2\nname: [a]\n---\n", 3, "name is a list"),
    "null as name": (b"---\nid: c3\nname: ~\n---\n", 3, "has no name"),
    "a name of a page": (b"---\nid: c4\nname: " + b"n" * 5000 + b"\n---\n", 3, "has 5000 characters"),
    "a mapping as status": (FRONT.format("c5", "status: {a: b}").encode(), 4, "status is a mapping"),
    "a status that cannot be seen": (FRONT.format("c6", 'status: "\\x1b[2J"').encode(), 4, "contains the invisible character"),
    "a level of two lines": (FRONT.format("c7", 'level: "a\\nb"').encode(), 4, "contains the invisible character"),
    "dependencies as text": (FRONT.format("c8", "depends_on: a, b").encode(), 4, "is not a list"),
    "dependencies as a number": (FRONT.format("c9", "depends_on: 3").encode(), 4, "is not a list"),
    "a date among dependencies": (FRONT.format("d1", "depends_on: [2024-01-01]").encode(), 4, "is a date in YAML"),
    "a list among dependencies": (FRONT.format("d2", "depends_on: [[a]]").encode(), 4, "contains a list"),
    "merge keys": (FRONT.format("d3", "x: &b {y: z}\n<<: *b").encode(), 4, "the anchor &b is not allowed"),
    "two documents": (FRONT.format("d4", "...\n--- x").encode(), 5, "second document"),
    "a model in a sentence": (FRONT.format("d5", "model: the best one").encode(), 4, "is not provider/model"),
}  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """The output for all of them in one repository, where every file has its own path."""
    hostile = HostileRepository(tmp_path_factory.mktemp("hostile") / "repository")
    files = {
        f"tasks/id-{name}.md": encode(f"---\nid: {quote_yaml(text)}\nname: n\n---\n") for name, text in IDS.items()
    }
    for number, (name, text) in enumerate(IDS.items()):
        content = f"---\nid: needs{number}\nname: n\ndepends_on: [good, {quote_yaml(text)}]\n---\n"
        files[f"tasks/needs-{name}.md"] = encode(content)
    files |= {f"tasks/file-{name}.md": data for name, (data, _, _) in CONTENTS.items()}
    hostile.commit(files)
    before = hostile.digest_files()
    checked, faults = hostile.call("validate", "--json"), hostile.load()
    found = hostile.refuse()
    assert checked.code == 2
    assert len(faults) == 101
    assert hostile.digest_files() == before
    # All faults, as the bounded output has only the first hundred.
    every = json.loads("\n".join(checked.lines))["faults"]
    lines = [f"{one['path']}:{one['line']}: {one['message']}" for one in every]
    assert found.lines[-2].partition("… ")[2].startswith(f"and {len(lines) - 100} more from here on")
    return Said(2, tuple(lines))


@pytest.mark.parametrize("name", IDS)
def test_an_id_that_could_leave_its_place_is_refused_in_one_line(said: Said, name: str) -> None:
    (line,) = said.find(f"tasks/id-{name}.md")
    assert line.startswith(f"tasks/id-{name}.md:2: id ")
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.parametrize("name", IDS)
def test_a_dependency_on_what_can_be_no_id_is_refused_in_one_line(said: Said, name: str) -> None:
    (line,) = said.find(f"tasks/needs-{name}.md")
    assert line.startswith(f"tasks/needs-{name}.md:4: depends_on ")
    assert "which is not a valid id: it " in line or "contains an empty item" in line
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.parametrize("name", CONTENTS)
def test_a_hostile_file_is_refused_with_its_line(said: Said, name: str) -> None:
    _, line, words = CONTENTS[name]
    found = said.find(f"tasks/file-{name}.md")
    assert any(one.startswith(f"tasks/file-{name}.md:{line}: ") and words in one for one in found), found
    assert len(found) < 25, "An alias bomb is named by its anchors, and no more."


@pytest.mark.parametrize(
    "data",
    [b"", b"# Notes\n", b"\0\1\2", b"\xff\xfe", b"----\n", b"x" * 10_000_000, b"\x89PNG\r\n\x1a\n---\nid: x\n---\n"],
    ids=["empty", "markdown", "binary", "a mark alone", "four dashes", "ten megabytes", "a picture"],
)
def test_what_has_no_front_matter_is_passed_over(hostile: HostileRepository, data: bytes) -> None:
    hostile.commit({"tasks/x.md": data})
    assert hostile.accept().lines == ("1 task file, 0 edges, no errors",)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf" + GOOD, GOOD.replace(b"\n", b"\r\n"), GOOD.rstrip(b"\n")])
def test_a_mark_and_other_line_endings_are_taken(hostile: HostileRepository, data: bytes) -> None:
    hostile.commit({"tasks/x.md": data.replace(b"good", b"other"), "tasks/good.md": None})
    assert hostile.accept().lines == ("1 task file, 0 edges, no errors",)


def test_ids_that_disks_confuse_get_branches_that_they_do_not(hostile: HostileRepository) -> None:
    ids = ["a", "a/b", "A", "a-b", "caf\xe9", "CAF\xc9", "\ufb01x", "fix", "\u0430", "HEAD", "refs/heads/x", "good/x"]
    hostile.commit(
        {f"tasks/{n}.md": encode(f"---\nid: {quote_yaml(one)}\nname: n\n---\n") for n, one in enumerate(ids)}
    )
    assert all("warning: " in line for line in hostile.accept().lines[:-1])
    names = load_project(hostile.top).name_branches()
    folded = [unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold()) for name in names.values()]
    assert len(set(folded)) == len(ids) + 1
    assert not [(one, other) for one in folded for other in folded if one.startswith(f"{other}/")]
    for name in names.values():
        hostile.git.run("update-ref", f"refs/heads/{name}", "HEAD")


def test_the_same_id_twice_and_composed_otherwise_is_refused(hostile: HostileRepository) -> None:
    ids = {"one": "caf\xe9", "two": "cafe\u0301", "three": "x", "four": "x"}
    hostile.commit({f"tasks/{name}.md": f"---\nid: {one}\nname: n\n---\n" for name, one in ids.items()})
    said = hostile.refuse()
    assert [line.partition(" ")[0] for line in said.lines[:-1]] == [
        "tasks/four.md:2:",
        "tasks/three.md:2:",
        "tasks/two.md:2:",
    ]


def test_a_circle_is_named_and_a_long_one_is_cut_short(hostile: HostileRepository) -> None:
    ring = {f"tasks/r{n}.md": f"---\nid: r{n}\nname: n\ndepends_on: [r{(n + 1) % 3000}]\n---\n" for n in range(3000)}
    pair = {f"tasks/p{n}.md": f"---\nid: p{n}\nname: n\ndepends_on: [p{1 - n}]\n---\n" for n in (0, 1)}
    hostile.commit({**ring, **pair})
    short, long, _ = hostile.refuse().lines
    assert short == (
        "tasks/p0.md:4: depends_on closes the cycle p0 -> p1 -> p0, so none of these can ever start. "
        "Remove one dependency."
    )
    assert long.startswith("tasks/r0.md:4: depends_on closes the cycle r0 -> r2999 -> ")
    assert long.endswith("so none of these can ever start. Remove one dependency.")
    assert "…" in long


def test_a_knot_of_a_hundred_thousand_dependencies_is_named_and_not_untied(hostile: HostileRepository) -> None:
    ids = [f"k{n}" for n in range(320)]
    files = {
        f"tasks/{one}.md": f"---\nid: {one}\nname: n\ndepends_on: [{', '.join(x for x in ids if x != one)}]\n---\n"
        for one in ids
    }
    hostile.commit(files)
    said = hostile.refuse()
    assert len(said.lines) <= 12
    assert "320 task files depend on each other" in "".join(said.lines)


@pytest.mark.parametrize(
    ("branch", "prefix", "task_id"),
    [("main", "ma", "in"), ("feat/a", "", "a/b"), ("feat/a/b", "", "a"), ("feat/A", "", "a")],
)
def test_an_id_that_asks_for_the_branch_of_the_target_gets_another(
    hostile: HostileRepository, branch: str, prefix: str, task_id: str
) -> None:
    settings = f"branch_prefix: {prefix}\n" if prefix else ""
    file = f"---\nid: {task_id}\nname: n\n---\n"
    hostile.commit({"tasks/x.md": file, "tasks/good.md": None, "coordinator.yaml": settings})
    hostile.git.run("branch", "-m", branch)
    hostile.accept()
    name = load_project(hostile.top).name_branches()[task_id]
    assert name.startswith(f"{prefix or 'feat/'}{task_id.replace('/', '-')}.")
    hostile.git.run("update-ref", f"refs/heads/{name}", "HEAD")


def test_a_prefix_that_could_not_be_beside_the_target_is_refused(hostile: HostileRepository) -> None:
    hostile.commit({"tasks/x.md": b"---\nid: x\nname: n\n---\n", "tasks/good.md": None})
    hostile.git.run("branch", "-m", "feat")
    (line,) = hostile.refuse().lines[:-1]
    assert line.startswith('tasks/x.md:2: id "x" needs branch feat/x')
    assert line.endswith(
        "git cannot create next to target feat; set another branch_prefix or target in coordinator.yaml"
    )


def test_what_names_show_can_be_printed(hostile: HostileRepository) -> None:
    hostile.commit({"tasks/x.md": encode('---\nid: x\nname: "a\\e[31m\\u202e\\u200bb\\nc"\n---\n')})
    assert load_project(hostile.top).graph.tasks["x"].name == "a [31m b c"
