"""Says how much two trees differ, many pairs with one process."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tasks_lib.git.commits.branch_state import SHORT_STAT, write_shortstat
from tasks_lib.git.objects.helper_process import Child, Died

_END = b"end of this comparison\n"
"""Git repeats lines that name no objects as they are, and only then is it certain to have written all before them."""


class TreeStats:
    """Compares trees of the repository in `directory`; git finds them with the variables of `environment`."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._helper: Child = Child(directory, ("diff-tree", "--stdin", "-r", *SHORT_STAT), environment)

    def compare(self, old: str, new: str) -> str:
        """Return the difference between two trees as `3 files +40 -2`, "" for none. Raises GitError if git fails."""
        return write_shortstat(self._helper.ask(f"{old} {new}\n".encode() + _END, _read))

    def close(self) -> None:
        """End the process; the next comparison starts it again."""
        self._helper.close()


def _read(output: IO[bytes]) -> str:
    lines: list[bytes] = []
    while (line := output.readline()) != _END:
        if not line.endswith(b"\n"):
            raise Died
        lines.append(line)
    return b"".join(lines).decode("utf-8", "replace")
