"""Programs that ask for input are refused at once, with a reason: real ones, as agents and shell lines start them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from shell_runner import PATH, Runner

from tasks_lib.git.environment_settings import write_environment_settings
from tasks_lib.process.noninteractive import ASKERS, EDITORS, PAGERS, SETTINGS, RefusingPrograms

HANG_SECONDS = 300.0
"""Not an assertion about time: a program that waits for input would wait forever, and is ended after this long."""
BEGIN = """\
printf '#!/bin/sh\\nexec sleep 1000\\n' > dialog && chmod +x dialog && dialog=$PWD/dialog
git init -q repo && cd repo && git config user.name a && git config user.email a@b
{settings}
commit() {{ echo "$2" > "$1" && git add "$1" && git commit -q -m "$2"; }}
commit f one && commit f two
conflict() {{ git checkout -qb side HEAD~1 && commit f three && ! git "$1" main > /dev/null 2>&1 && echo four > f && git add f; }}
git branch -qm main
"""
WAITING_SETTINGS = (
    "\n".join(
        f'git config {name} "$dialog"'
        for name in (
            "core.editor",
            "sequence.editor",
            "core.pager",
            "pager.log",
            "core.askPass",
            "mergetool.dialog.cmd",
            "difftool.dialog.cmd",
            "interactive.diffFilter",
        )
    )
    + "\ngit config merge.tool dialog; git config diff.tool dialog; git config diff.guitool dialog"
)
NO_MESSAGE = "nobody is here to write the message: give it with -m TEXT or -F FILE"
SIGN_BY_KEY = """\
ssh-keygen -q -t ed25519 -N secret -f key; git config gpg.format ssh; git config user.signingKey key.pub
git commit -q --allow-empty -S -m x"""


SIGN_BY_GPG = """\
mktemp -d > ../gpg && export GNUPGHOME=$(cat ../gpg) && trap 'rm -rf "$GNUPGHOME"' EXIT
key() { gpg --batch -q --pinentry-mode loopback --passphrase "$2" --quick-gen-key "$1" default default never; }
key 'a <a@b>' secret 2> /dev/null && echo "pinentry-program $dialog" > $GNUPGHOME/gpg-agent.conf
gpgconf --kill gpg-agent; git config user.signingKey a@b
gpg --batch --pinentry-mode loopback --passphrase secret -q -s -o signed f && test -s signed || echo no exception
gpgconf --kill gpg-agent; git commit -q --allow-empty -S -m x; status=$?; gpgconf --kill gpg-agent; exit $status"""
"""The home of gpg is not in the test's directory, whose path can be too long for the socket of gpg's agent."""


def make_environment(directory: Path) -> Mapping[str, str]:
    refusals = RefusingPrograms(directory / "refusals", PATH)
    home = directory / "home"
    home.mkdir()
    return {
        "PATH": f"{refusals.programs}:{PATH}",
        "HOME": str(home),
        "TERM": "xterm",
        "GIT_CONFIG_NOSYSTEM": "1",
        **refusals.variables({}),
        **write_environment_settings([*refusals.git_settings().items()]),
    }


async def ask(runner: Runner, script: str, stdin: bytes | None = None) -> tuple[int, str]:
    """Return the status of an sh script and what it printed; fails if it waits for input."""
    runner.more = make_environment(runner.directory)
    ended = await runner.run(script, timeout_seconds=HANG_SECONDS, stdin=stdin)
    assert not ended.timed_out, runner.output()[-2000:]
    return ended.status, runner.output()


REFUSED = {
    "commit": ("git commit -q --allow-empty", NO_MESSAGE),
    "commit with its patch": ("echo x > f; git commit -a -q -v", NO_MESSAGE),
    "commit that keeps comments": ("git commit -q --allow-empty --cleanup=verbatim", NO_MESSAGE),
    "commit with another mark": ("git config core.commentChar ';'; git commit -q --allow-empty", NO_MESSAGE),
    "commit with a mark of git's own": ("git config core.commentChar auto; git commit -q --allow-empty", NO_MESSAGE),
    "commit with a template": (
        "echo Why > ../why; git config commit.template ../why; git commit -q --allow-empty",
        "you did not edit the message",
    ),
    "tag": ("git tag -a v1", NO_MESSAGE),
    "notes": ("git notes add", NO_MESSAGE),
    "description": ("git branch --edit-description", NO_MESSAGE),
    "list of commits": ("git rebase -i HEAD~1", "nobody is here to edit the list of commits: set GIT_SEQUENCE_EDITOR"),
    "patch": ("echo x > f; git add -e", "nobody is here to edit"),
    "settings": ("git config -e && exit 1", "nobody is here to edit"),
    "merge tool": ("conflict merge; git reset -q f; git checkout -q -m f; git mergetool", "use a window"),
    "diff tool": ("git difftool HEAD~1; exit 1", "use a window"),
    "diff tool with a window": ("git difftool --gui HEAD~1; exit 1", "use a window"),
    "typo": ("git config help.autoCorrect prompt; git comit", "is not a git command"),
    "another program's editor": ('"$EDITOR" notes.txt', "nobody is here to edit notes.txt"),
    "another program's visual editor": ('"$VISUAL" notes.txt', "nobody is here to edit notes.txt"),
    "editor of this machine": ("sensible-editor notes.txt", "nobody is here to edit notes.txt"),
    "vi": ("vi notes.txt", "nobody is here to type into vi"),
    "vi whose output is a pipe": ("vi notes.txt 2>&1 | cat; exit 1", "nobody is here to type into vi"),
    "vi with options": ("vi -n notes.txt", "Error reading input, exiting"),
    "browser": ("python3 -m webbrowser http://127.0.0.1:9 ; exit 1", "nobody is here to use a window"),
    "passphrase of a key": (
        "ssh-keygen -q -t ed25519 -N secret -f key && ssh-keygen -y -f key",
        'nobody is here to answer "Enter passphrase',
    ),
    "passphrase for ssh-agent": (
        "ssh-keygen -q -t ed25519 -N secret -f key && ssh-agent ssh-add key",
        'nobody is here to answer "Enter passphrase',
    ),
    "signature with a key": (
        SIGN_BY_KEY,
        'nobody is here to answer "Enter passphrase',
    ),
    "passphrase of gpg": (SIGN_BY_GPG, "gpg failed to sign the data"),
    "signature": (
        "git config user.signingKey nobody; git commit -q --allow-empty -S -m x",
        "gpg failed to sign the data",
    ),
    "password on the terminal": ("python3 -c 'import getpass; getpass.getpass()'", "EOFError"),
    "terminal": ("read -r x < /dev/tty", "/dev/tty"),
    "answer": ("read -r answer", ""),
    "package": ("npm init", "package name"),
    "uninstalling": ("python3 -m pip uninstall pip", ""),
    "database": ("psql -h /nowhere -W", ""),
    "top": ("top -n 1", "failed tty get"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_question_is_answered_with_no_and_why(runner: Runner, name: str) -> None:
    script, why = REFUSED[name]
    program = script.split()[0]
    if program.isidentifier() and program not in ("conflict", "read", "echo") and not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    status, said = await ask(runner, BEGIN.format(settings=WAITING_SETTINGS) + script)
    assert status
    assert why in said
    assert "no exception" not in said


ALLOWED = {
    "merge": ("git checkout -qb side HEAD~1; commit g x; git merge -q main; git log -1 --format=%s", "Merge branch 'main' into side"),
    "merge after a conflict": ("conflict merge; git commit -q; git log -1 --format=%s", "Merge branch 'main' into side"),
    "rebase after a conflict": ("conflict rebase; git rebase --continue; git log -2 --format=%s", "three\ntwo"),
    "cherry-pick after a conflict": ("conflict cherry-pick; git cherry-pick --continue; git log -1 --format=%s", "two"),
    "revert": ("git revert HEAD; git log -1 --format=%s", 'Revert "two"'),
    "amend": ("git commit -q --amend; git log -1 --format=%s", "two"),
    "amend with its patch": ("git commit -q -v --amend; git log -1 --format=%s", "two"),
    "amend without editing": ("git commit -q --amend --no-edit; git log -1 --format=%s", "two"),
    "fixup": ("echo x > f; git commit -qa --fixup=HEAD; GIT_SEQUENCE_EDITOR=true git rebase -q -i --autosquash HEAD~2; git log -1 --format=%s", "two"),
    "editor set by the user": ("EDITOR=: GIT_EDITOR='echo mine >' git commit -q --allow-empty; git log -1 --format=%s", "mine"),
    "commits that are signed": ("git config commit.gpgSign true; git commit -q --allow-empty -m x; git log -1 --format=%s", "x"),
    "tags that are signed": ("git config tag.gpgSign true; git config tag.forceSignAnnotated true; git tag -a -m x v; git tag", "v"),
    "pager": ("git log --format=%s", "two"),
    "pager that is asked for": ("git --paginate log --format=%s", "two"),
    "less": ("git log --format=%s | less", "two"),
    "man": ("man ls > /dev/null; echo read", "read"),
    "python": ("python3; echo left", "left"),
    "node": ("node; echo left", "left"),
    "patch by patch": ("echo x > f; git add -p; git status --short", " M f"),
    "vi with a script": ("vi -es -c '%s/two/three/' -c wq f < /dev/null; cat f", "three"),
    "cleaning": ("touch x; git clean -i; git status --short", "?? x"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
async def test_what_needs_no_answer_works_though_a_person_would_be_asked(runner: Runner, name: str) -> None:
    script, found = ALLOWED[name]
    _, said = await ask(runner, BEGIN.format(settings=WAITING_SETTINGS) + script)
    assert found in said


async def test_a_program_that_reads_its_input_gets_the_prompt_and_its_end(runner: Runner) -> None:
    assert await ask(runner, "read -r first; cat; read -r none; echo $?", b"one\ntwo\n") == (0, "two\n1\n")


async def test_a_terminal_that_an_agent_makes_gets_the_same_answers(runner: Runner) -> None:
    line = "git --paginate log --format=%s; git commit --allow-empty; git merge-base --help"
    status, said = await ask(
        runner, BEGIN.format(settings=WAITING_SETTINGS) + f"script -qec '{line}' /dev/null; exit 1"
    )
    assert status
    assert NO_MESSAGE in said


def test_a_variable_that_is_named_in_full_is_theirs_unless_it_waits(tmp_path: Path) -> None:
    refusals = RefusingPrograms(tmp_path)
    environ = dict.fromkeys((*ASKERS, *SETTINGS, *EDITORS, *PAGERS, "BROWSER"), "theirs")
    assert refusals.variables({}, [*environ]) == refusals.variables(environ, ["*", "GIT_*"])
    assert refusals.variables(environ, [*environ]).keys() == {*EDITORS, *PAGERS, "BROWSER"}


async def test_a_place_with_strange_characters_does_as_well(runner: Runner, tmp_path: Path) -> None:
    strange = tmp_path / "a b's (c)"
    strange.mkdir()
    runner.more = make_environment(strange)
    ended = await runner.run(BEGIN.format(settings="") + "git commit -q --allow-empty", timeout_seconds=HANG_SECONDS)
    assert ended.status
    assert NO_MESSAGE in runner.output()
