"""Does in the demo what a user does in a second terminal while a run is in progress: resolves a blocked node."""

import os
import shlex
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from tasks_lib.model import OutcomeName
from tasks_lib.process.captured_output import run_captured
from tasks_lib.process.python_command import python_command
from tasks_lib.runtime.status_board import VIEW_NAME, read_view

LOOK_SECONDS = 0.5


class SecondTerminal:
    """Waits in a thread until `node` is blocked in the run of `repository`, and resolves it with `answer`.

    `say` is called, in that thread, with what a user would see there: the command line as typed with the name
    `program`, and its output. The command gets `environment`. Once only; leaving the block ends the wait.
    """

    def __init__(
        self,
        repository: Path,
        node: str,
        answer: str,
        program: str,
        say: Callable[[str], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._environment: Mapping[str, str] = environment
        self._repository: Path = repository
        self._words: list[str] = ["resolve", node, answer]
        self._node: str = node
        self._program: str = program
        self._say: Callable[[str], None] = say
        self._ended: threading.Event = threading.Event()
        self._thread: threading.Thread = threading.Thread(target=self._work, name="second terminal", daemon=True)

    def __enter__(self) -> "SecondTerminal":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            view = read_view(self._repository / ".git" / "coordinator" / VIEW_NAME)
            node = view.nodes.get(self._node) if view and not view.ended else None
            if node and node.outcome is OutcomeName.BLOCKED:
                self._say(f"In a second terminal: {self._program} {shlex.join(self._words)}")
                command = python_command("-m", "flows.cli", *self._words)
                done = run_captured(command, cwd=self._repository, environment=self._environment)
                self._say((done.stdout + done.stderr).decode("utf-8", "replace").rstrip())
                return
