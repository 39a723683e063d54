"""A real repository that accepts any file, the command line's output for it, and checks that nothing is left behind."""

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from new_repository import begin_repository
from oracle import LONGEST_MESSAGE
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.error_messages import explain
from tasks_lib.errors import Fault, InputError
from tasks_lib.git.runner import Git
from tasks_lib.project.loading import load_project

LINK, SUBMODULE = "120000", "160000"
SETTINGS = b'agent:\n  command: ["true"]\nverify: ["true"]\n'
GOOD = b"---\nid: good\nname: A task as it should be\n---\n"
SAID = re.compile(r"(?P<path>[^:]*?)(?::(?P<line>\d+))?: (?P<warning>warning: )?(?P<message>.+)")


@dataclass(frozen=True, slots=True)
class Said:
    """A command's exit code and output, both streams together."""

    code: int
    lines: tuple[str, ...]

    def find(self, path: str) -> tuple[str, ...]:
        """The lines about `path`."""
        return tuple(line for line in self.lines if line.startswith((f"{path}:", f"{path} ")))


class HostileRepository:
    """A repository at `top`; `secret` is a directory outside of it, with a task file that must never be read."""

    def __init__(self, top: Path) -> None:
        top.mkdir()
        self.top: Path = top
        self.secret: Path = top.parent / "outside"
        self.secret.mkdir()
        (self.secret / "secret.md").write_bytes(GOOD.replace(b"good", b"secret"))
        begin_repository(top)
        self.git: Git = Git(top)
        self.commit({"coordinator.yaml": SETTINGS, "tasks/good.md": GOOD})

    def commit(self, files: Mapping[str, bytes | str | None], modes: Mapping[str, str] | None = None) -> None:
        """Commit `files` (None removes one), however many and whatever they are, and check out the commit.

        A symlink's content is its target, a submodule's any commit id.
        """
        stream = io.BytesIO()
        stream.write(b"commit refs/heads/main\ncommitter A <a@b.c> 1700000000 +0000\ndata 0\n")
        if self.git.resolve("refs/heads/main"):
            stream.write(b"from refs/heads/main^0\n")
        for path, content in files.items():
            mode = (modes or {}).get(path, "100644")
            name = json.dumps(path, ensure_ascii=False).encode("utf-8", "surrogateescape")
            data = content.encode() if isinstance(content, str) else content
            if data is None:
                stream.write(b"D %s\n" % name)
            elif mode == SUBMODULE:
                stream.write(b"M %s %s %s\n" % (mode.encode(), data, name))
            else:
                stream.write(b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), name, len(data), data))
        self.git.run("fast-import", "--quiet", "--force", stdin=stream.getvalue())
        self.git.run("reset", "--quiet", "--hard")

    def write(self, path: str, data: bytes) -> None:
        """Put a file into the checkout, committed or not."""
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def digest_files(self) -> dict[str, str]:
        """Map every path in the checkout, in the git directory and next to the repository to a digest of its content."""
        found: dict[str, str] = {}
        for place, folders, files in os.walk(self.top.parent):
            for name in (*folders, *files):
                file = Path(place) / name
                is_plain = file.is_file() and not file.is_symlink()
                found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest() if is_plain else ""
        return found

    def call(self, *arguments: str) -> Said:
        """Call the command line on the repository as `main` does, but in this process."""
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            result = CliRunner().invoke(app, [*arguments, str(self.top)], standalone_mode=False)
            given: object = cast("Any", result).return_value
            code = given if isinstance(given, int) else result.exit_code
            if result.exception and not isinstance(result.exception, SystemExit):
                code = explain(result.exception)
        return Said(int(code), tuple((result.output + out.getvalue()).splitlines()))

    def load(self) -> tuple[Fault, ...]:
        """The faults that keep a run from starting; empty if it could start."""
        try:
            load_project(self.top)
        except InputError as error:
            return error.faults
        return ()

    def refuse(self) -> Said:
        """Assert that every reader refuses the repository and changes nothing; return the output of `validate`."""
        before = self.digest_files()
        checked, tried, faults = self.call("validate"), self.call("run", "--dry-run"), self.load()
        assert (checked.code, tried.code) == (2, 2), (checked, tried)
        assert faults
        assert self.digest_files() == before
        for line in (*checked.lines[:-1], *tried.lines, *map(str, faults)):
            assert is_clear(line), line
        return checked

    def accept(self) -> Said:
        """Assert that every reader accepts the repository, perhaps with warnings, and changes nothing; return `validate`'s
        output."""
        before = self.digest_files()
        checked, tried = self.call("validate"), self.call("run", "--dry-run")
        assert (checked.code, tried.code, self.load()) == (0, 0, ()), (checked, tried)
        assert self.digest_files() == before
        assert all(is_clear(line) for line in checked.lines), checked
        return checked


def is_clear(line: str) -> bool:
    """Whether a line meant for the user is printable, short enough, and not part of a traceback."""
    return line.isprintable() and 0 < len(line) < LONGEST_MESSAGE + 300 and "Traceback" not in line
