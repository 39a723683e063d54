"""Decides how opencode is told of the scripted model, and where an installed opencode is found."""

import json
import os
import platform
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from tasks_lib.errors import InputError
from tasks_lib.process.captured_output import run_captured
from tasks_lib.process.program_lookup import find_program as which

MODEL = "scripted/m1"
"""The scripted model's name to opencode, as `provider/model`."""
KEY = "scripted"
CHECKOUT = Path(__file__).resolve().parents[2]
SECTION = """\
agent:
  backend: opencode
  command: {command}
  # A scripted model stands in for a real one: it reads, edits, runs the tests and commits with opencode's tools.
  model: {model}
  config:
{config}"""
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def provider_config(url: str) -> dict[str, Any]:
    """The `provider` section of opencode's configuration for a scripted model at `url`; the prices are in dollars
    for a million tokens.
    """
    model = {
        "tool_call": True,
        "temperature": True,
        "reasoning": True,
        "limit": {"context": 100_000, "output": 4_096},
        "cost": {"input": 1, "output": 2, "cache_read": 0.1, "cache_write": 1},
    }
    provider, name = MODEL.split("/")
    options = {"baseURL": url, "apiKey": KEY}
    return {provider: {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {name: model}}}


def write_section(program: Path, url: str) -> str:
    """The section `agent` of a configuration, for the opencode at `program` and a scripted model at `url`."""
    config = yaml.safe_dump({"provider": provider_config(url)}, sort_keys=False)
    return SECTION.format(command=json.dumps([str(program)]), model=MODEL, config=indent(config, "    ").rstrip())


def find_program(named: Path | None) -> Path:
    """The opencode that is named, else the one on PATH, else this checkout's own. Raises InputError without any."""
    if named is not None:
        if not named.is_file():
            raise InputError([f"there is no program {named}; name opencode's own with --opencode"])
        return named.absolute()
    if on_path := which("opencode"):
        return Path(on_path).absolute()
    if installed := find_installed(CHECKOUT / ".local" / "opencode"):
        return installed
    fix = "npm install -g opencode-ai@1.18.33 installs it, or name it with --opencode"
    raise InputError([f"opencode is not on PATH; {fix}"])


def find_installed(directory: Path) -> Path | None:
    """The opencode that npm installed into `directory`, None if there is none.

    Where npm ran no install scripts, the package's own program is a stub or missing; then it is the platform's.
    """
    modules = directory / "node_modules"
    system, machine = platform.system().lower(), MACHINES.get(platform.machine().lower(), "")
    package = f"opencode-{system}-{machine}"
    names = [package, f"{package}-baseline", f"{package}-musl", f"{package}-baseline-musl"]
    candidates = [modules / ".bin" / "opencode", *(modules / name / "bin" / "opencode" for name in names)]
    return next((path for path in candidates if path.is_file() and is_program(path)), None)


def is_program(path: Path) -> bool:
    """Whether the file begins as a program of this system does, and not as a stub's script."""
    with path.open("rb") as file:
        return file.read(4) in {b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"}


def main() -> int:
    """See that the opencode in the directory that the command line names runs, and say which it is."""
    program = find_installed(Path(sys.argv[1]).resolve())
    if program is None:
        sys.stderr.write(f"npm left no opencode for this system in {sys.argv[1]}\n")
        return 1
    done = run_captured([str(program), "--version"], environment=os.environ)
    sys.stdout.write(f"opencode {done.stdout.decode().strip()} is {program}\n")
    return done.status


if __name__ == "__main__":
    sys.exit(main())
