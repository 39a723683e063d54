"""Decides what happens when a program would wait for user input: it is refused at once, with a reason.

Two things keep a program from waiting. `run_group` starts everything in its own session, without a terminal, and with a
file or nothing as standard input, so reading an answer finds the end of the file. A program that asks by starting
another one (an editor, a pager, a password dialog) gets a program from here that refuses and says why.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from tasks_lib.process.program_lookup import find_program

EDITORS = (
    "GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "EDITOR", "VISUAL", "FCEDIT",
    "SUDO_EDITOR", "SYSTEMD_EDITOR", "HGEDITOR", "SVN_EDITOR", "JJ_EDITOR", "BZR_EDITOR", "CVSEDITOR", "P4EDITOR",
    "GH_EDITOR", "KUBE_EDITOR", "PSQL_EDITOR", "BUNDLER_EDITOR", "GEM_EDITOR", "HOMEBREW_EDITOR",
)  # fmt: skip
PAGERS = (
    "PAGER", "GIT_PAGER", "MANPAGER", "SYSTEMD_PAGER", "PSQL_PAGER", "BAT_PAGER", "DELTA_PAGER", "GH_PAGER",
    "AWS_PAGER",
)  # fmt: skip
ASKERS = ("GIT_ASKPASS", "SSH_ASKPASS", "SUDO_ASKPASS")
"""Programs that ask for a password. One that needs no input can be passed on by naming its variable in full."""
SETTINGS: Mapping[str, str] = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_MERGE_AUTOEDIT": "no",
    "GCM_INTERACTIVE": "never",
    "SSH_ASKPASS_REQUIRE": "force",  # Otherwise ssh asks on a terminal first, if an agent creates one.
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_MODE": "l",
    "GH_PROMPT_DISABLED": "1",
    "PIP_NO_INPUT": "1",
    "POETRY_NO_INTERACTION": "1",
    "PDM_NON_INTERACTIVE": "1",
    "HATCH_INTERACTIVE": "false",
    "COMPOSER_NO_INTERACTION": "1",
    "CONAN_NON_INTERACTIVE": "1",
    "TF_INPUT": "0",
}
"""Tell programs that no user is present. None of these answers yes for the user or changes anything else that a program
does; `CI` and a package manager's `--yes` would, so a shell line or an agent has to set them."""
OWN_GIT: Mapping[str, str] = {
    "GIT_TERMINAL_PROMPT": "0",
    # Empty rather than unset: otherwise git uses `core.askPass` or `SSH_ASKPASS`, which open a dialog.
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    "GIT_EDITOR": ":",
    "GIT_SEQUENCE_EDITOR": ":",
    "GIT_MERGE_AUTOEDIT": "no",
    "GIT_PAGER": "cat",
}
"""For git as coordinator runs it. Credential helpers and an ssh-agent need no input, so they still work."""


_GPG = ("gpg", "gpg2")
_KEYS = ("vi", "vim", "view", "vimdiff", "nvim")
"""Editors that wait for keys even without a terminal if their standard error is a pipe; others give up."""


class RefusingPrograms:
    """Creates the programs that refuse, in `directory`; `programs` in it is to be put on a PATH.

    `gpg` is the program that git is configured to sign with, and `search_path` is where to look for it. A passphrase is
    asked for by a program that gpg's own agent starts, on the user's screen, and no variable prevents that.
    """

    def __init__(self, directory: Path, search_path: str = "", gpg: str = "gpg") -> None:
        self.programs: Path = directory / "programs"
        self.programs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._gpg: str = gpg if Path(gpg).name in _GPG else ""
        for name in {*_GPG, self._gpg} - {""}:
            if found := find_program(name, search_path):
                text = f'#!/bin/sh\nexec {shlex.quote(found)} --pinentry-mode error "$@"\n'
                _make_program(self.programs / Path(name).name, text)
        for name in _KEYS:
            if found := find_program(name, search_path):
                text = f"#!/bin/sh\nreal={shlex.quote(found)}\n{_read_script('keys')}"
                _make_program(self.programs / name, text)
        self._editor: Path = _write(directory, "editor")
        self._password: Path = _write(directory, "password")
        self._window: Path = _write(directory, "window")

    def variables(self, environ: Mapping[str, str], named: Sequence[str] = ()) -> dict[str, str]:
        """Return variables that make programs start these, to be merged over an environment.

        A variable of `environ` that `named` lists in full, not by a glob, is kept, unless it is an editor, a pager or a
        browser: those wait for input even if the user named them on purpose.
        """
        editor, window = (shlex.quote(str(path)) for path in (self._editor, self._window))
        asked = {**dict.fromkeys(ASKERS, str(self._password)), **SETTINGS}
        kept = set(named) & environ.keys()
        return {
            **{name: value for name, value in asked.items() if name not in kept},
            **dict.fromkeys(EDITORS, editor),
            **dict.fromkeys(PAGERS, "cat"),
            "BROWSER": window,
        }

    def git_settings(self) -> dict[str, str]:
        """Return git settings for what has no variables, e.g. signing, which asks with a dialog too."""
        tools = {
            f"{kind}.{key}": "coordinator" for kind in ("merge", "diff") for key in ("tool", "guitool")
        }  # fmt: skip
        commands = {f"{kind}tool.coordinator.cmd": shlex.quote(str(self._window)) for kind in ("merge", "diff")}
        prompts = {f"{kind}tool.prompt": "false" for kind in ("merge", "diff")}
        signatures = ("commit.gpgSign", "tag.gpgSign", "tag.forceSignAnnotated", "push.gpgSign")
        shim = self.programs / Path(self._gpg or "gpg").name
        return {
            **({"gpg.program": str(shim)} if self._gpg and shim.is_file() else {}),
            **dict.fromkeys(signatures, "false"),
            "credential.interactive": "false",
            "help.autoCorrect": "0",
            "help.format": "man",
            **tools,
            **commands,
            **prompts,
        }


def _write(directory: Path, name: str) -> Path:
    return _make_program(directory / name, _read_script(name))


def _read_script(name: str) -> str:
    return (files("tasks_lib.process") / "refusals" / f"{name}.sh").read_text("utf-8")


def _make_program(path: Path, text: str) -> Path:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o700)
    with os.fdopen(number, "w", encoding="utf-8") as sink:
        sink.write(text)
    return path
