"""Hostile configurations: every key, every form of file, and the variables that override it."""

import os

import pytest
from hostile_input import encode, list_keys, quote_yaml, write_key
from hostile_repository import LINK, SUBMODULE, HostileRepository, is_clear
from hostile_values import BOMB, MERGES, SNIPPETS, TEXTS

KEYS = list_keys()
LONG = ("x" * 300, "x/" * 3000 + "x")
VARIABLES = (
    "../x", "-x", "a\nb", "\x1b[2J", "\udcff", "&a [*a]", "[" * 10_000, "x" * 100_000, "!!python/none x",
)  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> HostileRepository:
    """A repository for tests that only write its configuration, without committing it."""
    return HostileRepository(tmp_path_factory.mktemp("hostile") / "repository")


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_a_hostile_value_of_a_key_is_refused_in_clear_lines_or_is_harmless(
    checkout: HostileRepository, key: tuple[str, ...]
) -> None:
    number = KEYS.index(key)
    # One of them per key; a test that needs no repository tries all of them on every key.
    words = [quote_yaml(text) for text in TEXTS[number % 30 :: 30]]
    values = ["&a [*a]", (SNIPPETS[number % len(SNIPPETS)], words[0], f"[{', '.join(words)}]")[number % 3]]
    refused = 0
    for value in values:
        checkout.write("coordinator.yaml", encode(write_key(key, value)))
        before = checkout.digest_files()
        checked, tried = checkout.call("validate"), checkout.call("run", "--dry-run")
        assert checked.code == tried.code, (value, checked, tried)
        assert checked.code in (0, 2)
        assert all(is_clear(line) for line in (*checked.lines, *tried.lines)), (value, checked, tried)
        assert checkout.digest_files() == before
        refused += checked.code == 2
    assert refused


@pytest.mark.parametrize(
    "path", ["..", "../outside", "/etc", "tasks/../..", ".git", ".GIT/x", "-x", "a\0b", *LONG], ids=ascii
)
def test_a_task_folder_is_never_looked_for_where_it_cannot_be(checkout: HostileRepository, path: str) -> None:
    checkout.write("coordinator.yaml", encode(f"tasks_dir: {quote_yaml(path)}\n"))
    said = checkout.refuse()
    assert len(said.lines) == 2
    # `-x` could be a folder name; the others could not.
    assert said.lines[0].startswith(
        'The folder "-x" cannot be' if path == "-x" else "coordinator.yaml:1: tasks_dir is "
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"max_sessions: 2\n\xff\n", "coordinator.yaml:2: the byte 0xff is not UTF-8"),
        ("max_sessions: 2\n".encode("utf-16"), "coordinator.yaml:1: the byte 0xff is not UTF-8"),
        (b"\0", "coordinator.yaml:1: the file contains the character '\\x00'"),
        (b"- a\n", "coordinator.yaml:1: the file is not a mapping"),
        (b"text", "coordinator.yaml:1: the file is not a mapping"),
        (b"\n\n" + b"[" * 10_000, "coordinator.yaml:3: the file is nested more than 32 levels deep"),
        (b"a: " * 10_000, "coordinator.yaml:1: the file is not valid YAML"),
        (BOMB.encode(), "coordinator.yaml:1: the anchor &a is not allowed"),
        (MERGES.encode(), "coordinator.yaml:1: the anchor &a is not allowed"),
        (b"x" * 500_000, "coordinator.yaml: has 500000 characters; the limit is 200000"),
        (b"x" * 10_000_000, "coordinator.yaml: has more than 1000000 bytes"),
        (b"setup: [" + b"1," * 5_000 + b"]", "coordinator.yaml:1: setup item 1 is 1, not text"),
        (b"max_sessions: 0x" + b"f" * 6_000, "coordinator.yaml:1: max_sessions is "),
        (b"tasks_dir: 2024-99-99\nmax_sessions: x\n", "coordinator.yaml:2: max_sessions is "),
        (b"tasks_dir: !!python/object/apply:os.system [id]\n", "coordinator.yaml:1: the tag !!python/object"),
        (b"---\na: b\n---\nc: d\n", "coordinator.yaml:3: the file contains a second document"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_hostile_configuration_is_refused_with_its_line(checkout: HostileRepository, data: bytes, words: str) -> None:
    checkout.write("coordinator.yaml", data)
    said = checkout.refuse()
    assert any(line.startswith(words) for line in said.lines), said
    assert len(said.lines) < 105


def test_a_mark_and_other_line_endings_are_taken(checkout: HostileRepository) -> None:
    checkout.write("coordinator.yaml", b"\xef\xbb\xbfmax_sessions: 2\r\nverify: ['true']\r\n")
    checkout.accept()


@pytest.mark.parametrize("where", ["/etc/passwd", "../outside/secret.md", "itself", "nowhere", "tasks", "/dev/zero"])
@pytest.mark.parametrize("name", ["coordinator.yaml", ".taskgraph.toml"])
def test_a_configuration_that_is_a_link_to_elsewhere_is_refused(
    hostile: HostileRepository, name: str, where: str
) -> None:
    hostile.commit({name: name if where == "itself" else where}, {name: LINK})
    said = hostile.refuse()
    assert said.lines[0].startswith(f"{name}: ")
    assert "secret" not in "".join(said.lines)
    # A bare clone has no checkout, so the commit is read.
    hostile.git.run("config", "core.bare", "true")
    assert f"{name}: is a link, a folder or a submodule on main" in str(hostile.load()[0])


def test_a_link_inside_the_repository_is_followed(hostile: HostileRepository) -> None:
    hostile.commit(
        {"etc/settings.yaml": "max_sessions: 0\n", "coordinator.yaml": "etc/settings.yaml"}, {"coordinator.yaml": LINK}
    )
    assert hostile.refuse().lines[0].startswith("coordinator.yaml:1: max_sessions is 0")


@pytest.mark.parametrize("name", ["coordinator.yaml", ".taskgraph.toml"])
def test_a_configuration_that_is_a_folder_a_pipe_or_a_submodule_is_refused(
    hostile: HostileRepository, name: str
) -> None:
    hostile.commit({name: None, f"{name}/x": b"x"})
    assert hostile.refuse().lines[0].startswith(f"{name}: is not a regular file")
    hostile.commit({f"{name}/x": None, name: b"1" * 40}, {name: SUBMODULE})
    assert hostile.refuse().lines[0].startswith(f"{name}: is not a regular file")
    (hostile.top / name).rmdir()
    os.mkfifo(hostile.top / name)
    assert hostile.refuse().lines[0].startswith(f"{name}: is not a regular file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[project]\ntasks_dir = '../x'\n", "2: tasks_dir is"),
        ("[project]\ntasks_dir = 9" + "9" * 5_000, "is not valid TOML"),
        ("[project]\ntasks_dir = 2024-99-99\n", "is not valid TOML"),
        ("[project]\ntasks_dir = " + "[" * 9_000, "is not valid TOML"),
        ("[project]\n" + ".".join("a" * 40_000) + " = 1\n", "has 80014 characters; the limit is 10000"),
        ("[project]\ntasks_dir = [1]\n", "2: tasks_dir is not text"),
        ("project = 1\n", "1: project is not a table"),
        ("\ufeff[project]\ntasks_dir = '-x/../y'\n", "2: tasks_dir is"),
    ],
    ids=lambda value: value[:20],
)
def test_a_hostile_taskgraph_configuration_is_refused(hostile: HostileRepository, text: str, words: str) -> None:
    hostile.commit({"coordinator.yaml": None})
    hostile.write(".taskgraph.toml", text.encode())
    said = hostile.refuse()
    assert said.lines[0].startswith(".taskgraph.toml:")
    assert words in said.lines[0]


@pytest.mark.parametrize(("number", "name"), enumerate(["BRANCH_PREFIX", "MAX_SESSIONS", "ROLES", "WATCH__NUDGES"]))
def test_a_hostile_variable_is_refused_in_clear_lines(
    checkout: HostileRepository, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    checkout.write("coordinator.yaml", b"")  # A configuration left by an earlier test would be refused too.
    for text in VARIABLES[number % 3 :: 3]:
        monkeypatch.setenv(f"COORDINATOR_{name}", text)
        said = checkout.refuse()
        assert len(said.lines) <= 4


def test_faults_of_configuration_and_task_files_are_said_together(hostile: HostileRepository) -> None:
    hostile.commit({"coordinator.yaml": "tasks_dir: work\nx: &a [*a]\n", "work/a.md": "---\nid: -x\nname: n\n---\n"})
    assert [line.split(" ")[0] for line in hostile.refuse().lines[:-1]] == ["coordinator.yaml:2:"] * 2 + [
        "work/a.md:2:"
    ]
