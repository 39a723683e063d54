"""The tracer kills just before or just after the chosen side effect, and misses no side effect."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from chaos.forked_run import make_shim
from chaos.syscalls import is_possible
from chaos.tracer import Tracer

from tasks_lib.git.commits.isolated_git import DISK_PREFIX
from tasks_lib.git.kept.snapshots import INDEX_PREFIX

SCRIPT = """\
import json, os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from chaos.tracer import Target, install
place, target = Path({place!r}), Target(**json.loads({target!r}))
os.environ["CHAOS_BIN"] = str(place / "bin")
install(place / "trace", target, {{str(place): "<place>"}})
(place / "made").mkdir()
(place / "made").mkdir(exist_ok=True)
(place / "file").write_text("x")
(place / "file").rename(place / "moved")
subprocess.run(["git", "init", "-q", str(place / "made")], env=dict(os.environ), check=True)
(place / "moved").unlink()
(place / "moved").unlink(missing_ok=True)
"""
EVERYTHING = [
    "mkdir <place>/made @ ",
    "write <place>/file @ ",
    "rename <place>/file <place>/moved @ ",
    "process git init -q <place>/made @ ",
    "remove <place>/moved @ ",
]


def run_script(place: Path, **target: object) -> int:
    make_shim(place / "bin")
    tests = str(Path(__file__).resolve().parent.parent)
    script = SCRIPT.format(tests=tests, place=str(place), target=json.dumps({"mode": "before", **target}))
    return subprocess.run([sys.executable, "-S", "-c", script], check=False, timeout=60, cwd=place).returncode


def read_signatures(place: Path) -> list[str]:
    return [json.loads(line)["signature"] for line in (place / "trace").read_text().splitlines()]


def test_what_changes_something_is_seen_and_nothing_else(tmp_path: Path) -> None:
    assert run_script(tmp_path) == 0
    assert read_signatures(tmp_path) == EVERYTHING


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("mode", ["before", "after"])
def test_the_kill_comes_between_two_side_effects(tmp_path: Path, number: int, mode: str) -> None:
    code = run_script(tmp_path, mode=mode, number=number)
    done = number if mode == "after" else number - 1
    is_there = {name: (tmp_path / name).exists() for name in ("made", "file", "moved", "made/.git/HEAD")}
    assert code == -signal.SIGKILL
    assert len(read_signatures(tmp_path)) == number
    assert is_there == {
        "made": done >= 1,
        "file": done == 2,
        "moved": done in (3, 4),
        "made/.git/HEAD": done >= 4,
    }


@pytest.mark.skipif(not is_possible(), reason="ptrace is not possible here")
def test_a_cut_ends_the_process_in_the_middle_of_its_work(tmp_path: Path) -> None:
    signature = EVERYTHING[3]
    found: list[int] = []
    for cut in (1, 2, 12):
        place = tmp_path / str(cut)
        place.mkdir()
        assert run_script(place, mode="cut", signature=signature, cut=cut) == -signal.SIGKILL
        found.append(sum(1 for _ in (place / "made").rglob("*")))
    assert found == sorted(set(found))
    assert not (tmp_path / "1/made/.git").exists()


@pytest.mark.parametrize("name", ["x_7yz0q1", "12ab34cd", "12345678"])
def test_a_temporary_name_is_always_told_as_one(name: str) -> None:
    tracer = Tracer(0, None, {"/place": "<place>"})
    told = tracer.normalize("write", f"/place/repository/.git/coordinator/moving.json.coordinator-{name}")
    assert told == "<place>/repository/.git/coordinator/moving.json.coordinator-<temp>"


@pytest.mark.parametrize("prefix", [INDEX_PREFIX, DISK_PREFIX, "quarantine/merges-"])
def test_a_temporary_directory_is_told_without_its_random_name(prefix: str) -> None:
    """Otherwise a kill beside it is never met again."""
    told = Tracer(0, None, {}).normalize("mkdir", f"/{prefix}y34uv83m/a")
    assert told == f"/{prefix}<temp>/a"
