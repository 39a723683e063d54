"""`coordinator spoke`: registering repositories on a machine, removing them, and cleaning up after killed workers."""

import fcntl
import json
import os
import threading
from pathlib import Path

import pytest
from cli_fixtures import Call, Main, UserRepository

from flows.spokes.registry import SpokeRepository, add_repository, clean_up_copies
from flows.spokes.worker_lock import holding_worker_lock
from tasks_lib.errors import BusyError, InputError
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.runner import Git


@pytest.fixture
def registered(bare_repo: UserRepository) -> SpokeRepository:
    return add_repository(str(bare_repo.top), "shop")


def list_place(tmp_path: Path) -> list[str]:
    place = tmp_path / "data" / "spokes"
    return sorted(path.name for path in place.iterdir()) if place.exists() else []


def test_a_url_that_does_not_answer_is_refused_and_leaves_nothing(call: Call, tmp_path: Path) -> None:
    url = str(tmp_path / "nowhere.git")
    done = call("spoke", "add", url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"git ls-remote {url}" in done.stderr
    assert "Nothing was registered" in done.stderr
    assert list_place(tmp_path) == []


def test_a_remote_without_a_branch_is_refused_and_leaves_nothing(main_here: Main, tmp_path: Path) -> None:
    Git(tmp_path).run("init", "--quiet", "--bare", "empty.git")
    with pytest.raises(InputError, match="--target"):
        main_here("spoke", "add", str(tmp_path / "empty.git"))
    assert list_place(tmp_path) == []


def test_a_registered_copy_stays_if_its_remote_does_not_answer(
    registered: SpokeRepository, main_here: Main, bare_repo: UserRepository
) -> None:
    bare_repo.top.rename(bare_repo.top.with_name("moved"))
    with pytest.raises(InputError, match="cannot be fetched"):
        main_here("spoke", "add", registered.url, "--name", "shop")
    assert registered.place.is_dir()


def test_removing_a_repository_removes_its_copy_and_files(
    registered: SpokeRepository, main_here: Main, tmp_path: Path
) -> None:
    registered.files.mkdir(parents=True)
    (registered.files / ".env").write_text("KEY=1")
    assert main_here("spoke", "remove", "shop")[0] == 0
    assert list_place(tmp_path) == ["files"]
    assert list(registered.files.parent.iterdir()) == []


def test_a_repository_with_unsaved_work_is_removed_only_by_force(
    registered: SpokeRepository, main_here: Main, bare_repo: UserRepository
) -> None:
    registered.files.mkdir(parents=True)
    ref = keep_commit(Git(registered.place), "pay", bare_repo.git.text("rev-parse", "HEAD"))
    with pytest.raises(InputError, match=ref):
        main_here("spoke", "remove", "shop")
    assert registered.place.is_dir()
    assert registered.files.is_dir()
    assert main_here("spoke", "remove", "shop", "--force")[0] == 0
    assert not registered.place.exists()


def test_cleanup_says_what_it_would_do_and_does_it(
    registered: SpokeRepository, main_here: Main, tmp_path: Path
) -> None:
    half = tmp_path / "data" / "spokes" / "half.git"
    half.mkdir()
    code, output = main_here("spoke", "cleanup", "--dry-run", "--json")
    assert (code, json.loads(output)["done"]) == (0, [f"{half}: would be deleted; no repository is registered with it"])
    assert half.is_dir()
    assert main_here("spoke", "cleanup") == (0, f"{half}: deleted; no repository is registered with it\n")
    assert not half.exists()
    assert registered.place.is_dir()
    assert main_here("spoke", "cleanup") == (0, "There was nothing to clean up.\n")


@pytest.mark.usefixtures("registered")
def test_cleanup_leaves_a_working_machine_alone(main_here: Main, tmp_path: Path) -> None:
    with holding_worker_lock(tmp_path / "data"), pytest.raises(BusyError, match="restart it"):
        main_here("spoke", "cleanup")


def test_a_copy_that_is_being_registered_is_not_cleaned_up(registered: SpokeRepository) -> None:
    registry = registered.data / "spokes.json"
    known = registry.read_text()
    with (registered.data / "spokes.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        registry.unlink()  # As it is while the copy is being made.
        cleaning = threading.Thread(target=clean_up_copies, args=(registered.data,))
        cleaning.start()
        inode = str(os.fstat(lock.fileno()).st_ino)
        while cleaning.is_alive() and not is_awaited(inode):
            cleaning.join(0.01)
        registry.write_text(known)
    cleaning.join()
    assert registered.place.is_dir()


def is_awaited(inode: str) -> bool:
    """Whether somebody waits for the lock of the file with this inode."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f":{inode} " in line for line in lines)
