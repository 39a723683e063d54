"""A process that has imported the command line, and forks for each command that a test of it runs.

A fork saves the third of a second of CPU time that each command spends on imports. It is the real command line in a
process of its own, with its own environment, directory, outputs and exit code. Only how Python starts is left out: tests
of that, and of signals, streams and imports, start Python as a user does.
"""

import gc
import importlib
import io
import json
import os
import pkgutil
import subprocess
import sys
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

PROGRAM = Path(__file__).resolve().parents[2] / "flows" / "cli" / "__main__.py"
ENCODING = "utf-8"


class CommandHost:
    """Runs commands in forks of `process`, one at a time; their output passes through files in `place`."""

    def __init__(self, process: "subprocess.Popen[str]", place: Path) -> None:
        self._process: subprocess.Popen[str] = process
        self._outputs: tuple[Path, Path] = (place / "stdout", place / "stderr")

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        """Run `coordinator` with `arguments` to its end."""
        assert self._process.stdin
        assert self._process.stdout
        outputs = [str(path) for path in self._outputs]
        request = {"arguments": arguments, "cwd": str(cwd), "environment": dict(environment), "outputs": outputs}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        out, err = (path.read_text(ENCODING) for path in self._outputs)
        return subprocess.CompletedProcess(["coordinator", *arguments], code, out, err)


@contextmanager
def open_command_host(place: Path) -> Generator[CommandHost]:
    """Start a host whose files are in the directory `place`; it ends with the block."""
    command = [sys.executable, "-P", __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdin
        try:
            yield CommandHost(process, place)
        finally:
            process.stdin.close()


# What follows runs in the host.


def serve() -> None:
    """Fork for each line of standard input, and print the exit code of each fork."""
    import_all()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become_coordinator(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def import_all() -> None:
    """Import what the commands import at their start, and GitPython, which they load with their first git command."""
    from tasks_lib.git.runner import Git

    importlib.import_module("flows.cli.main")
    commands = importlib.import_module("flows.cli.commands")
    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"{commands.__name__}.{module.name}")
    assert Git(Path("/"))
    assert "prefect" not in sys.modules  # It reads the environment when it is imported.


def become_coordinator(
    arguments: Sequence[str], cwd: str, environment: Mapping[str, str], outputs: Sequence[str]
) -> NoReturn:
    """Do what `python -m flows.cli` does once it has started, and end with its exit code."""
    code = 1
    try:
        set_streams(*outputs)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(PROGRAM), *arguments]
        from flows.cli.main import main

        main()  # It exits by itself; what is printed is flushed.
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


def set_streams(output: str, errors: str) -> None:
    """Give this process no input, and these files as its outputs, as Python opens them."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for own, path, mode in ((0, os.devnull, os.O_RDONLY), (1, output, flags), (2, errors, flags)):
        opened = os.open(path, mode, 0o600)
        os.dup2(opened, own)
        os.close(opened)
    sys.stdin = os.fdopen(0, encoding=ENCODING, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=ENCODING, closefd=False)
    binary: Any = os.fdopen(2, "wb", closefd=False)
    sys.stderr = io.TextIOWrapper(binary, encoding=ENCODING, errors="backslashreplace", line_buffering=True)


if __name__ == "__main__":
    serve()
