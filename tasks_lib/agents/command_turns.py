"""Shared by programs that are run once per turn: placeholders, the file with the prompt, and how they ended."""

import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks_lib.agents.backend import TurnSpec
from tasks_lib.process.process_groups import Ended

PLACEHOLDERS = re.compile(r"\{(role|prompt_file|answer_file|session)\}")


def fill(argv: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Return `argv` with each `{name}` replaced, once: the inserted text is not searched again."""
    return [PLACEHOLDERS.sub(lambda found: names[found[1]], word) for word in argv]


def write_prompt(directory: Path, turn: TurnSpec, said: bytes) -> Path:
    """Write the prompt of a turn into `directory`, which only the user can read."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory.absolute() / f"prompt-{turn.attempt}-{turn.turn}.md"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
        sink.write(said)
    return path


def describe_end(program: str, ended: Ended, turn_seconds: float) -> str:
    """Say how `program` ended, "" if it succeeded."""
    if ended.timed_out:
        return f"`{program}` was ended because the turn took longer than {turn_seconds:g} seconds"
    if ended.status < 0:
        return f"`{program}` was ended by {_name_signal(-ended.status)}"
    return f"`{program}` exited with {ended.status}" if ended.status else ""


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
