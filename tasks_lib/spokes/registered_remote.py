"""A repository that a machine runs sessions of, and how long the logs of its sessions are kept there."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import CoordinatorError
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktrees.stale_files import is_old
from tasks_lib.project.loading import CONFIGURATION
from tasks_lib.settings.schema import Settings
from tasks_lib.spokes.workspace import read_session_settings

DAY_SECONDS = 86_400.0
LOGS = "logs"
"""The directory, next to the repositories, with the logs of all sessions on this machine."""


@dataclass(frozen=True, slots=True)
class RegisteredRemote:
    """A repository that this machine runs sessions of: its copy at `place`, and the branch that work lands on."""

    place: Path
    target: str

    def read_settings(self) -> Settings:
        """Read the configuration as it was fetched last; the defaults if it cannot be read."""
        try:
            with Objects(Repository.open(self.place).git) as objects:
                entry = objects.find_entry(f"refs/remotes/origin/{self.target}", CONFIGURATION)
                text = objects.read(entry.oid).decode("utf-8-sig", "replace") if entry and entry.is_file else ""
            return read_session_settings(text)[0]
        except (CoordinatorError, OSError):
            return Settings()


def find_kept_days(remotes: Iterable[RegisteredRemote]) -> int:
    """How long logs are kept here, in days: the longest `kept_days` of all repositories; 0 means forever."""
    days = [remote.read_settings().kept_days for remote in remotes] or [Settings().kept_days]
    return 0 if 0 in days else max(days)


def find_old_logs(logs: Path, days: int) -> list[Path]:
    """Logs in the directory `logs` that were last written more than `days` ago; none if that is 0."""
    return [log for log in sorted(logs.glob("*.log")) if is_old(log, days * DAY_SECONDS)] if days else []
