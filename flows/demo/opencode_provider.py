"""Configures opencode for the scripted model, and finds an installed opencode."""

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
"""The scripted model's name in opencode, as `provider/model`."""
KEY = "scripted"
CHECKOUT = Path(__file__).resolve().parents[2]
SECTION = """\
agent:
  backend: opencode
  command: {command}
  # A scripted model instead of a real one: it reads, edits, runs the tests and commits with opencode's tools.
  model: {model}
  config:
{config}"""
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def provider_config(url: str) -> dict[str, Any]:
    """The `provider` section of opencode's configuration for a scripted model at `url`.

    Prices are in dollars per million tokens.
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
    """Write the `agent` section for the opencode at `program` and a scripted model at `url`."""
    config = yaml.safe_dump({"provider": provider_config(url)}, sort_keys=False)
    return SECTION.format(command=json.dumps([str(program)]), model=MODEL, config=indent(config, "    ").rstrip())


def find_program(named: Path | None) -> Path:
    """Find opencode: `named`, the one on PATH, or this checkout's own. Raises InputError if there is none."""
    if named is not None:
        if not named.is_file():
            raise InputError([f"there is no program {named}; give the path of opencode with --opencode"])
        return named.absolute()
    if on_path := which("opencode"):
        return Path(on_path).absolute()
    if installed := find_installed(CHECKOUT / ".local" / "opencode"):
        return installed
    fix = "install it with `npm install -g opencode-ai@1.18.33`, or give its path with --opencode"
    raise InputError([f"opencode is not on PATH; {fix}"])


def find_installed(directory: Path) -> Path | None:
    """Find the opencode that npm installed into `directory`, None if there is none.

    If npm ran no install scripts, the package's own program is a stub or missing, so the platform's is used.
    """
    modules = directory / "node_modules"
    system, machine = platform.system().lower(), MACHINES.get(platform.machine().lower(), "")
    package = f"opencode-{system}-{machine}"
    names = [package, f"{package}-baseline", f"{package}-musl", f"{package}-baseline-musl"]
    candidates = [modules / ".bin" / "opencode", *(modules / name / "bin" / "opencode" for name in names)]
    return next((path for path in candidates if path.is_file() and is_program(path)), None)


def is_program(path: Path) -> bool:
    """Whether the file is a native program, and not a stub script."""
    with path.open("rb") as file:
        return file.read(4) in {b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"}


def main() -> int:
    """Check that the opencode in the directory given as an argument runs, and print its version."""
    program = find_installed(Path(sys.argv[1]).resolve())
    if program is None:
        sys.stderr.write(f"npm installed no opencode for this system into {sys.argv[1]}\n")
        return 1
    done = run_captured([str(program), "--version"], environment=os.environ)
    sys.stdout.write(f"opencode {done.stdout.decode().strip()} is {program}\n")
    return done.status


if __name__ == "__main__":
    sys.exit(main())
