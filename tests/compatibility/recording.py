"""Writes down what this release leaves in repositories, below `records/<release>/`: run it once for each release.

    cd tests && ../.venv/bin/python -m compatibility.recording 0.2.0

What stands there of earlier releases is never recorded anew and never changed: users have such records on disk, and
each release has to read them. A release is left out again only when it is said that it cannot be continued from.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

import psutil
from compatibility.scenes import RECORDS, save_scene
from compatibility.story import ENDING, KILLED, Story, tell_story
from e2e.conftest import Coordinator, ask_until

from flows.prefect_server import LOOPBACK, end_child, find_free_port, start_child

HELD = ("working", "given-back", "reviewed")
"""The sessions that are open when a run is killed."""


def work_to_the_end(coordinator: Coordinator, story: Story) -> tuple[int, str, dict[str, str]]:
    """Work a story, and end its node `aborted`; the exit code, the output, and what other terminals were told."""
    process = coordinator.start("run", story.top)
    # `landed` has ended by then, so nothing of it can be aborted.
    ask_until(lambda: is_open_and_landed(story) or process.poll() is not None, bool)
    message = coordinator.run("message", "aborted", "Hurry", "--json", "--repo", story.top)
    abort = coordinator.run("abort", "aborted", "landed", "--json", "--repo", story.top)
    output, _ = process.communicate(timeout=300)
    return process.wait(), output, {"message": message[1], "abort": abort[1]}


def kill_amid_work(coordinator: Coordinator, story: Story) -> None:
    """Work a story, and kill its run when everything that can end has ended; no process is left."""
    (story.place / "hold").touch()
    process = coordinator.start("run", story.top)
    ask_until(lambda: has_interrupted_move(story) or process.poll() is not None, bool)
    assert process.poll() is None, process.communicate()[0]
    running = psutil.Process(process.pid)
    children = running.children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    for child in children:
        if child.is_running():
            child.kill()
    process.communicate()
    (story.place / "hold").unlink()


def is_open_and_landed(story: Story) -> bool:
    return story.has_seen("aborted") and has_outcomes(story, "Checked")


def has_interrupted_move(story: Story) -> bool:
    return story.has_seen(*HELD) and has_outcomes(story, "Merged", "Checked", "Blocked")


def has_outcomes(story: Story, *names: str) -> bool:
    """Whether the run says of some node each that it ended so."""
    view = (story.top / ".git" / "coordinator" / "run.json").read_text(encoding="utf-8")
    return all(f'"outcome": "{name}"' in view for name in names)


def record(release: Path, place: Path) -> None:
    """Work both stories in `place`, and write down how they stand."""
    for name in list(os.environ):
        if name.startswith(("COORDINATOR_", "PREFECT_")):
            del os.environ[name]
    os.environ |= {"GIT_CONFIG_GLOBAL": str(place / "none"), "GIT_CONFIG_NOSYSTEM": "1"}
    data = place / "data"
    data.mkdir()
    child = start_child(place, find_free_port())
    coordinator = Coordinator(data, f"http://{LOOPBACK}:{child.port}/api")
    try:
        ended = tell_story(place / "ended", ENDING)
        code, output, _ = work_to_the_end(coordinator, ended)
        assert code == 1, output
        save_scene(ended, release / "ended")
        killed = tell_story(place / "killed", KILLED, delay_seconds=3600)
        kill_amid_work(coordinator, killed)
        save_scene(killed, release / "killed")
    finally:
        end_child(child)


if __name__ == "__main__":
    chosen = RECORDS / sys.argv[1]
    if chosen.exists():
        sys.exit(f"{chosen} is recorded already, and is not to be changed")
    with tempfile.TemporaryDirectory() as directory:
        record(chosen, Path(directory).resolve())
