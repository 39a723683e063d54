"""Starts `coordinator run` as a process of its own, which continues when this one ends."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from flows.data_directory import own_directory
from flows.prefect_isolation import absolute_places
from tasks_lib.errors import SystemFailure
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import read_holder
from tasks_lib.process.python_command import python_command
from tasks_lib.process.user_environment import user_environment

TAIL_LINES = 5


class DetachedRun:
    """A run in a session of its own, without a terminal; what it prints is in `log`."""

    def __init__(self, repository: Repository) -> None:
        repository.prepare()
        self._repository = repository
        self.log: Path = repository.state_dir / "logs" / f"run-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                python_command("-m", "flows.cli", "run", str(repository.top)),
                cwd=own_directory(),
                env={**user_environment(), **absolute_places()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_open(self) -> bool:
        """Whether the run holds the repository's lock, or has ended already. Raises SystemFailure if it failed."""
        code = self._process.poll()
        if code is None:
            return read_holder(self._repository.state_dir) is not None
        if code not in (0, 3):
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
            raise SystemFailure(f"the run ended with exit code {code} ({self.log}):\n" + "\n".join(lines))
        return True
