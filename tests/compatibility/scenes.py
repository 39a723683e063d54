"""Keeps what a release left in a repository as text, and makes that repository again somewhere else.

A scene is a directory: `history.txt` is what `git fast-export` says of every ref, `state/` the coordinator's own
directory, and each directory of `worktrees/` a worktree: its branch, its records, and what was not committed in it.
`{TOP}`, `{HOST}` and `{INODE}` stand for what differs from place to place.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from compatibility.story import Story, begin
from generated_graphs import run_git

RECORDS = Path(__file__).parent / "records"
RELEASES = sorted(path.name for path in RECORDS.iterdir()) if RECORDS.is_dir() else []
STATE = ("run.json", "lock", "logs/given-back/*.log")
OWN = ("coordinator.json", "coordinator-notices.jsonl", "coordinator-slot")
"""Records in the git directory of a worktree."""


def save_scene(story: Story, scene: Path) -> None:
    """Write down the repository of `story`, which nobody works."""
    top = story.top
    shutil.rmtree(scene, ignore_errors=True)
    history = subprocess.run(
        ["git", "fast-export", "--glob=refs/*"], cwd=top, capture_output=True, check=True
    ).stdout.decode()
    assert str(top) not in history, "an id of a commit would differ from place to place"
    files = {"history.txt": history}
    state = top / ".git" / "coordinator"
    for path in (path for pattern in STATE for path in sorted(state.glob(pattern))):
        files[f"state/{path.relative_to(state)}"] = path.read_text(encoding="utf-8")
    for worktree in _list_worktrees(top):
        files |= {f"worktrees/{worktree.name}/{name}": text for name, text in _read_worktree(top, worktree).items()}
    for name, text in files.items():
        path = scene / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_generalise(text, top), encoding="utf-8")


def _list_worktrees(top: Path) -> list[Path]:
    """Those of nodes; the pool is made anew whenever it is needed."""
    blocks = run_git(top, "worktree", "list", "--porcelain").split("\n\n")[1:]
    return [Path(block.splitlines()[0].removeprefix("worktree ")) for block in blocks if "\nbranch " in block]


def _read_worktree(top: Path, worktree: Path) -> Mapping[str, str]:
    git_dir = Path(run_git(worktree, "rev-parse", "--absolute-git-dir").strip())
    lines = run_git(worktree, "status", "--porcelain", "--untracked-files=all").splitlines()
    return {
        "branch": run_git(worktree, "branch", "--show-current"),
        "path": str(worktree.relative_to(top)),
        **{name: (git_dir / name).read_text(encoding="utf-8") for name in OWN if (git_dir / name).exists()},
        **{f"uncommitted/{line[3:]}": (worktree / line[3:]).read_text(encoding="utf-8") for line in lines},
    }


def _generalise(text: str, top: Path) -> str:
    text = text.replace(str(top), "{TOP}").replace(f'"{socket.gethostname()}"', '"{HOST}"')
    return re.sub(r'"inode": \d+', '"inode": {INODE}', text)


def make_scene(scene: Path, place: Path) -> Story:
    """Make the repository of `scene` in the directory `place`."""
    story = Story(place)
    top = story.top
    begin(top)
    stream = (scene / "history.txt").read_bytes()
    subprocess.run(["git", "fast-import", "--quiet", "--force"], cwd=top, input=stream, check=True)
    run_git(top, "reset", "--quiet", "--hard")
    (top / ".git" / "info").mkdir(exist_ok=True)
    (top / ".git" / "info" / "exclude").write_text("/.worktrees/\n", encoding="utf-8")
    for path, text in _read_files(scene / "state", top):
        _write(top / ".git" / "coordinator" / path, text)
    for saved in sorted((scene / "worktrees").iterdir()):
        _make_worktree(saved, top)
    return story


def _make_worktree(saved: Path, top: Path) -> None:
    files = {str(path): text for path, text in _read_files(saved, top)}
    branch, worktree = files["branch"].strip(), top / files["path"].strip()
    run_git(top, "worktree", "add", "--quiet", str(worktree), branch)
    git_dir = Path(run_git(worktree, "rev-parse", "--absolute-git-dir").strip())
    for name in OWN:
        if name in files:
            _write(git_dir / name, files[name])
    for name, text in files.items():
        if name.startswith("uncommitted/"):
            _write(worktree / name.removeprefix("uncommitted/"), text)


def _read_files(directory: Path, top: Path) -> Iterator[tuple[Path, str]]:
    """Each file below `directory`, as it would be written here."""
    inode = os.stat(top / ".git").st_ino  # noqa: PTH116
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8").replace("{TOP}", str(top)).replace("{HOST}", socket.gethostname())
        yield path.relative_to(directory), text.replace("{INODE}", str(inode))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
