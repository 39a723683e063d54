"""What agents, setup and verify see: their variables and files, and nothing of the hub's."""

import os
import shutil
import socket

import pytest
from run_harness import RunHarness

SECRETS = {"PREFECT_API_KEY": "hub", "GITHUB_TOKEN": "hub", "SSH_AUTH_SOCK": "/hub", "COORDINATOR_DATA_DIR": "/hub"}


def read_variables(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in text.splitlines())}


async def test_agent_setup_and_verify_see_what_is_allowed_and_no_secret(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECRETS, "MODEL_KEY": "m", "NPM_HOME": "n", "DB_URL": "d"}.items():
        monkeypatch.setenv(name, value)
    harness.make(
        {"a": {}},
        setup=[f"env > {harness.place}/setup.env"],
        verify=[f"env > {harness.place}/verify.env"],
        env={"agent": ["MODEL_*"], "setup": ["NPM_*"], "verify": ["DB_URL"]},
    )
    assert (await harness.work()).names == {"a": "Merged"}
    seen = {
        "agent": harness.journal.variables("a-1-1"),
        "verify": read_variables((harness.place / "verify.env").read_text()),
        "setup": read_variables((harness.place / "setup.env").read_text()),
    }
    for variables in seen.values():
        assert not set(SECRETS) & set(variables)
        assert not [name for name in variables if name.startswith("PREFECT_")]
        assert int(variables["COORDINATOR_SLOT"]) > 0
    allowed = {"MODEL_KEY", "NPM_HOME", "DB_URL"}
    assert {work: set(variables) & allowed for work, variables in seen.items()} == {
        "agent": {"MODEL_KEY"},
        "setup": {"NPM_HOME"},
        "verify": {"DB_URL"},
    }


async def test_turn_is_told_where_it_is(harness: RunHarness) -> None:
    harness.make({"a": {"level": "research"}}, target="main")
    await harness.work()
    told = {
        name: value for name, value in harness.journal.variables("a-1-1").items() if name.startswith("COORDINATOR_")
    }
    session = told.pop("COORDINATOR_SESSION")
    assert told.pop("COORDINATOR_PROGRAM").endswith("/bin/coordinator")
    slot = told.pop("COORDINATOR_SLOT")
    assert session
    assert slot.isdecimal()
    worktree = str((harness.top / ".worktrees/research/a").resolve())
    assert told == {
        "COORDINATOR_TASK_ID": "a",
        "COORDINATOR_TASK_FILE": "tasks/a.md",
        "COORDINATOR_BRANCH": "research/a",
        "COORDINATOR_WORKTREE": worktree,
        "COORDINATOR_ROLE": "poc-specialist",
        "COORDINATOR_ATTEMPT": "1",
        "COORDINATOR_TURN": "1",
        "COORDINATOR_TARGET": harness.at("main^"),
        "COORDINATOR_REPOSITORY": str((harness.top / ".git").resolve()),
    }
    assert harness.journal.read("a-1-1", "cwd").strip() == worktree
    assert "coordinator-" in harness.journal.variables("a-1-1")["PATH"].split(":")[0]


async def test_slots_of_live_worktrees_are_unique(harness: RunHarness) -> None:
    nodes = [f"n{number}" for number in range(4)]
    harness.make({name: {} for name in nodes}, "tell begun; await go; work", signals=["begun", "go"])

    async def let_all_begin(_: object) -> None:
        for _node in nodes:
            await harness.signals["begun"].wait()
        harness.signals["go"].send(len(nodes))

    await harness.work(during=let_all_begin)
    assert len({harness.journal.variables(f"{name}-1-1")["COORDINATOR_SLOT"] for name in nodes}) == len(nodes)


async def test_listed_files_are_copied_in_and_are_never_dirt_nor_landed(harness: RunHarness) -> None:
    harness.make(
        {"a": {}},
        "cp .env seen.txt; ls etc >> seen.txt; git add seen.txt; git commit -qm 'feat(a): see'",
        copy=[".env", "etc", "missing", "docs", "read.me"],
        files={"docs/tracked.txt": "kept\n", "read.me": "kept\n"},
    )
    shutil.rmtree(harness.top / "docs")
    (harness.top / "read.me").unlink()
    (harness.top / ".env").write_text("KEY=1\n")
    (harness.top / "etc").mkdir()
    (harness.top / "etc" / "local.toml").write_text("")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]
    assert harness.show("seen.txt") == "KEY=1\nlocal.toml\n"
    assert harness.show("docs/tracked.txt") == harness.show("read.me") == "kept\n"
    assert not harness.has(".env")
    assert harness.leftovers() == []


async def test_pipes_and_sockets_in_a_copied_folder_are_left_out(harness: RunHarness) -> None:
    harness.make({"a": {}}, "ls etc > seen.txt; git add seen.txt; git commit -qm 'feat(a): see'", copy=["etc"])
    (harness.top / "etc").mkdir()
    (harness.top / "etc" / "local.toml").write_text("")
    (harness.top / "etc" / "link").symlink_to("local.toml")
    os.mkfifo(harness.top / "etc" / "pipe")
    with socket.socket(socket.AF_UNIX) as held:
        directory = os.open(harness.top / "etc", os.O_RDONLY)
        held.bind(f"/proc/self/fd/{directory}/socket")  # The whole path may be longer than an address can be.
        os.close(directory)
        assert (await harness.work()).names == {"a": "Merged"}
    assert harness.show("seen.txt") == "link\nlocal.toml\n"


async def test_copy_replaces_what_an_agent_left_in_its_place(harness: RunHarness) -> None:
    agent = (
        "[ $attempt = 2 ] || { rm -rf .env etc; mkdir -p .env/deep; touch etc; exit 1; }\n"
        "cat .env etc/local.toml > seen.txt; git add seen.txt; git commit -qm 'feat(a): see'"
    )
    harness.make({"a": {}}, agent, copy=[".env", "etc"])
    (harness.top / ".env").write_text("KEY=1\n")
    (harness.top / "etc").mkdir()
    (harness.top / "etc" / "local.toml").write_text("here\n")
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-2-1"]
    assert harness.show("seen.txt") == "KEY=1\nhere\n"


async def test_copy_never_writes_through_a_link_that_an_agent_left(harness: RunHarness) -> None:
    outside = harness.place / "outside"
    agent = (
        f"[ $attempt = 2 ] || {{ ln -sfn {outside} .env; ln -sfn {harness.place} etc; exit 1; }}\nrm -rf etc .env\nwork"
    )
    harness.make({"a": {}}, agent, copy=[".env", "etc/local.toml"])
    (harness.top / ".env").write_text("KEY=1\n")
    (harness.top / "etc").mkdir()
    (harness.top / "etc" / "local.toml").write_text("")
    outside.write_text("untouched\n")
    await harness.work()
    assert harness.journal.turns() == ["a-1-1", "a-2-1"]
    assert outside.read_text() == "untouched\n"
    assert not (harness.place / "local.toml").exists()


async def test_setup_runs_in_the_worktree_before_the_agent_and_in_that_of_verify(harness: RunHarness) -> None:
    harness.make(
        {"a": {}}, "test -f built.tmp\nwork", setup=["echo x > built.tmp"], verify=["test -f built.tmp", "test -f a.txt"],
        files={".gitignore": "*.tmp\n"},
    )  # fmt: skip
    assert (await harness.work()).names == {"a": "Merged"}


async def test_commits_are_made_in_the_name_of_who_runs_it(harness: RunHarness) -> None:
    harness.make({"a": {}})
    await harness.work()
    assert set(harness.git.text("log", "--format=%an <%ae> %cn").splitlines()) == {"Ada <ada@example.org> Ada"}


async def test_setup_that_fails_is_told_to_the_next_attempt(harness: RunHarness) -> None:
    harness.make({"a": {}}, setup=[f"mkdir {harness.place}/once && {{ echo no such wheel; exit 4; }} || true"])
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert [task_id for task_id, _ in worked.retries] == ["a"]
    prompt = harness.journal.read("a-2-1")
    assert "Attempt 1: setup failed before the session started" in prompt
    assert "no such wheel" in prompt


async def test_verify_sees_the_copied_files_that_the_agent_saw(harness: RunHarness) -> None:
    harness.make({"a": {}}, verify=["test -s .env"], copy=[".env"], files={".gitignore": ".env\n"})
    (harness.top / ".env").write_text("PORT=1\n", encoding="utf-8")
    assert (await harness.work()).names == {"a": "Merged"}
