"""Makes the repositories of tests from one that git made, since each start of git costs two milliseconds of CPU time."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tasks_lib.git.runner import Git


def begin_repository(top: Path) -> None:
    """Make `top`, which may exist, a repository without commits, on `main`, with an identity. Its hooks have no samples."""
    shutil.copytree(make_template(), top, dirs_exist_ok=True)


@cache
def make_template() -> Path:
    """A repository as `begin_repository` makes it, once in each process and gone with it."""
    place = Path(tempfile.mkdtemp(prefix="template-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    top = place / "repository"
    top.mkdir()
    git = Git(top)
    git.run("init", "--quiet", "--initial-branch=main")
    git.run("config", "user.name", "Ada")
    git.run("config", "user.email", "ada@example.org")
    for sample in (top / ".git/hooks").glob("*.sample"):
        sample.unlink()
    return top
