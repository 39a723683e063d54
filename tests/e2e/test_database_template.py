"""The copy of a new server's database that later servers in new data directories start with."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from e2e.conftest import start_server

from flows.data_directory import CACHE_VARIABLE
from flows.database_template import (
    DATABASE,
    MEMO,
    copy_template,
    find_template,
    is_new,
    keep_template,
    prepared_database,
)
from flows.prefect_server import Child, end_child

pytestmark = pytest.mark.xdist_group("prefect")
PREPARE = """
import sys
from pathlib import Path
from flows.database_template import DATABASE, prepared_database
print("started", flush=True)
with prepared_database(Path(sys.argv[1])):
    print((Path(sys.argv[1]) / DATABASE).exists())
"""


@pytest.fixture
def template(server: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy that the server of the session has made, or an earlier one, in a cache directory of the test's own."""
    made = find_template()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return Path(shutil.copy(made, find_template()))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    return place


def list_blocks(home: Path) -> list[tuple[str, str, str]]:
    """The block types in a database, and when each was registered, first and last."""
    with closing(sqlite3.connect(home / DATABASE)) as connection:
        return connection.execute("SELECT slug, created, updated FROM block_type ORDER BY slug").fetchall()


def test_server_in_a_new_home_creates_and_registers_nothing_again(template: Path, home: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    assert copy_template(copied)
    end_child(start_server(home))
    assert list_blocks(home) == list_blocks(copied)
    assert not (home / MEMO).exists(), "it looked for blocks to register"


def test_damaged_copy_is_replaced_by_the_tables_that_the_server_creates(
    template: Path, home: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    assert copy_template(old)
    template.write_bytes(template.read_bytes()[:-4096])
    end_child(start_server(home))
    new = tmp_path / "new"
    new.mkdir()
    assert copy_template(new)
    assert list_blocks(new) == list_blocks(home) != list_blocks(old)
    assert [slug for slug, *_ in list_blocks(new)] == [slug for slug, *_ in list_blocks(old)]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"prefect 3", b"prefect 2"), (b"{", b""), (b"SQLite format 3", b"SQLite format 2")],
    ids=["another version", "not JSON", "another database"],
)
def test_copy_that_is_not_the_one_made_is_not_used(template: Path, home: Path, old: bytes, new: bytes) -> None:
    template.write_bytes(template.read_bytes().replace(old, new, 1))
    assert not copy_template(home)
    assert list(home.iterdir()) == []


def test_database_with_data_is_not_kept(template: Path, home: Path) -> None:
    assert copy_template(home)
    with closing(sqlite3.connect(home / DATABASE)) as connection, connection:
        connection.execute("INSERT INTO configuration (key, value) VALUES ('SECRET', '{}')")
    template.unlink()
    keep_template(home)
    assert not template.exists()


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_database_or_journal_that_is_there_is_left_alone(template: Path, home: Path, suffix: str) -> None:
    (home / f"{DATABASE}{suffix}").write_bytes(b"theirs")
    with prepared_database(home):
        assert [path.read_bytes() for path in home.iterdir()] == [b"theirs"]


def test_second_first_start_waits_for_the_tables_of_the_first(template: Path, home: Path, tmp_path: Path) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    source.mkdir()
    other.mkdir()
    assert copy_template(source)
    template.unlink()
    with prepared_database(home):
        command = [sys.executable, "-c", PREPARE, str(other)]
        second = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
        assert second.stdout
        assert second.stdout.readline() == "started\n"
        shutil.copytree(source, home, dirs_exist_ok=True)  # What a server does in the block.
    output, _ = second.communicate(timeout=300)
    assert output == "True\n"


def test_start_without_a_cache_directory_keeps_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with prepared_database(home):
        assert is_new(home)
