"""Checks before a run that a known program is there, in a version and with options that are known, and logged in."""

import os
import re
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks_lib.agents.presets.preset import Launch, Preset, first_line
from tasks_lib.process.captured_output import run_captured
from tasks_lib.process.private_directories import private_directory
from tasks_lib.process.program_lookup import find_program
from tasks_lib.process.user_environment import user_environment
from tasks_lib.text import fold_printable

SECONDS = 60
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_OPTION = re.compile(r"--[A-Za-z][\w-]*")


def examine(preset: Preset, environment: Mapping[str, str], *, may_be_missing: bool = False) -> str:
    """Say why no session can be opened and how to fix that, "" if nothing is known against it.

    `environment` is what the agent's programs get. With `may_be_missing`, a missing program is not a fault.
    """
    search_path = environment.get("PATH", os.defpath)
    path = find_program(preset.name, search_path)
    if path is None:
        missing = f"`{preset.name}` is not on PATH ({search_path}): install it with `{_install(preset)}`"
        return "" if may_be_missing else missing
    succeeded, printed = _ask(path, ["--version"], environment)
    said = fold_printable(first_line(printed))
    if not succeeded:
        return f"`{path} --version` failed ({said}): install {preset.title} anew with `{_install(preset)}`"
    return (
        find_version_fault(preset, said)
        or find_option_fault(preset, said, _ask(path, preset.help_words, environment)[1])
        or _find_login_fault(preset, path, environment)
    )


def find_version_fault(preset: Preset, said: str) -> str:
    """Say why the version in `said`, the output of `--version`, cannot be used, "" if it can."""
    found, oldest, tried = map(_read_version, (said, preset.oldest, preset.tried))
    if not found:
        return f"`{preset.name} --version` prints no version ({said}): install it with `{_install(preset)}`"
    if oldest <= found < (tried[0] + 1, 0, 0):
        return ""
    what = "too old" if found < oldest else "a newer major version"
    version = ".".join(map(str, found))
    return (
        f"{preset.title} {version} is {what}: this preset takes {preset.oldest} up to, but not including, "
        f"{tried[0] + 1}.0.0, and was tried with {preset.tried}; `{_install(preset)}` installs that, or write the "
        "program's command line as agent.command"
    )


def find_option_fault(preset: Preset, said: str, listed: str) -> str:
    """Say which options of its command line the program does not list in `listed`, the output of its help; or ""."""
    sample = Launch(str(uuid.UUID(int=0)), "", "m", Path("/"), {}, (Path("/"),), is_read_only=True)
    used = [word for word in preset.build(sample) if word.startswith("--")]
    known = set(_OPTION.findall(listed))
    if not known or not (missing := [option for option in used if option not in known]):
        return ""
    return (
        f"{preset.title} ({said}) has no option {' and no '.join(missing)}, which this preset needs: "
        f"`{_install(preset)}` installs the version that it was tried with, or write the program's command line as "
        "agent.command"
    )


def _find_login_fault(preset: Preset, path: str, environment: Mapping[str, str]) -> str:
    if any(environment.get(name) for name in preset.keys) or preset.has_own_provider(environment):
        return ""
    if _ask(path, preset.login, environment)[0]:
        return ""
    mine = user_environment()
    if hidden := [name for name in preset.keys if mine.get(name)]:
        return f"{preset.title} is not logged in, and {hidden[0]} is set but not passed on: list it in env.agent"
    return f"{preset.title} is not logged in and has no key: {preset.login_advice}"


def _ask(path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[bool, str]:
    """Run the program outside of any project; whether it succeeded, and what it printed."""
    with private_directory() as directory:
        try:
            done = run_captured([path, *arguments], cwd=directory, environment=environment, seconds=SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return False, str(error)
    return done.status == 0, (done.stdout or done.stderr).decode("utf-8", "replace")


def _read_version(text: str) -> tuple[int, ...]:
    found = _VERSION.search(text)
    return tuple(map(int, found.groups())) if found else ()


def _install(preset: Preset) -> str:
    return f"npm install -g {preset.package}@{preset.tried}"
