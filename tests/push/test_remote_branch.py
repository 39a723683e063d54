"""Fetching from and pushing to a remote, and how its answers are interpreted, against a bare repository."""

import asyncio
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from push.remote_harness import RemoteHarness
from run_harness import until

from tasks_lib.errors import GitError, RemoteError
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.remote_branch import Pushed, Raced, Refused, Remote, Unreachable
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git


@pytest.fixture
def remote(shared: RemoteHarness) -> Remote:
    """The remote of a repository without tasks, with a timeout of 30 seconds per answer."""
    shared.make({})
    return Remote(Repository.open(shared.top), "origin", "main", answer_seconds=30)


def commit(shared: RemoteHarness) -> tuple[str, str]:
    """Make one more commit on main; return its commits before and after."""
    return shared.at(), shared.commit("More", {"more.txt": "x\n"})


def is_dead(pid: int) -> bool:
    """Whether the process has exited; it may still be a zombie that its parent has not reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class _Asking(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="hub"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815 - It is the name that is looked for.

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - It is the name there.
        """Log nothing."""


@contextmanager
def asking_hub() -> Generator[str]:
    """Yield the URL of a server that asks for a user name and password and rejects all of them."""
    with HTTPServer(("127.0.0.1", 0), _Asking) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hub.git"
        server.shutdown()


def put_program(shared: RemoteHarness, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> Path:
    """Put an sh program on the PATH; return a file that it may write to."""
    folder = shared.place / "programs"
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "said"


def test_push_moves_the_branch_and_the_tracking_ref_whatever_the_refspec_is(
    shared: RemoteHarness, remote: Remote
) -> None:
    base, head = commit(shared)
    shared.git.run("config", "--replace-all", "remote.origin.fetch", "+refs/heads/other:refs/remotes/origin/other")
    assert remote.push(head, base) == Pushed(head)
    assert shared.at_hub("main") == shared.at("refs/remotes/origin/main") == head
    assert remote.push(head, head) == Pushed(head)


def test_dry_push_changes_nothing(shared: RemoteHarness, remote: Remote) -> None:
    base, head = commit(shared)
    assert remote.push(head, base, is_dry_run=True) == Pushed(head)
    assert shared.at_hub("main") == shared.at("refs/remotes/origin/main") == base


def test_push_never_takes_away_a_commit_and_never_gives_back_one_that_was_dropped(
    shared: RemoteHarness, remote: Remote
) -> None:
    base, head = commit(shared)
    theirs = shared.join("ann").share("By Ann", {"ann.txt": "x\n"})
    assert isinstance(remote.push(head, base), Raced)
    assert remote.fetch() == theirs
    assert isinstance(remote.push(head, theirs), Raced)
    assert shared.at_hub("main") == theirs
    shared.git.run("push", "--quiet", "--force", "origin", f"{head}:main")
    shared.hub.run("update-ref", "refs/heads/main", base)
    further = shared.commit("Further", {"further.txt": "x\n"})
    assert isinstance(remote.push(further, head), Raced)
    assert shared.at_hub("main") == base


def test_a_lock_on_the_branch_is_no_refusal(shared: RemoteHarness, remote: Remote) -> None:
    base, head = commit(shared)
    (shared.hub_path / "refs/heads/main.lock").touch()
    said = remote.push(head, base)
    assert isinstance(said, Raced)
    assert "main.lock': File exists" in said.words


def test_words_of_a_refusal_are_printable_bounded_and_without_passwords(shared: RemoteHarness, remote: Remote) -> None:
    base, head = commit(shared)
    escapes = r"printf '\033]0;title\007\033[1;31mNo\033[0m \302\233m see https://me:secret@hub.example/rules\r\n' >&2"
    shared.hook("pre-receive", f"{escapes}; yes many words | head -1000 >&2; echo only by review >&2; exit 1")
    said = remote.push(head, base)
    assert isinstance(said, Refused)
    assert said.words.startswith("No ")
    assert "https://hub.example/rules" in said.words
    assert said.words.isprintable()
    assert "secret" not in said.words
    assert len(said.words) < 700
    assert said.words.endswith("only by review [remote rejected] (pre-receive hook declined)")


def test_no_permission_is_a_refusal_and_a_network_that_is_away_is_not(
    shared: RemoteHarness, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, head = commit(shared)
    shared.git.run("remote", "set-url", "origin", "ssh://hub/x")
    monkeypatch.setenv("GIT_SSH_COMMAND", "sh -c 'echo git@hub: Permission denied \\(publickey\\). >&2; exit 255'")
    assert remote.push(head, base) == Refused(
        "git@hub: Permission denied (publickey). Could not read from remote repository."
    )
    monkeypatch.setenv("GIT_SSH_COMMAND", "sh -c 'echo connect to host hub: Connection refused >&2; exit 255'")
    assert isinstance(remote.push(head, base), Unreachable)


async def test_remote_that_never_answers_is_given_up_with_all_that_was_started(
    shared: RemoteHarness, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = shared.place / "pid"
    shared.git.run("remote", "set-url", "origin", "ssh://hub/x")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"sh -c 'echo $$ > {pid}; exec sleep 1000'")
    hasty = Remote(Repository.open(shared.top), "origin", "main", answer_seconds=2)
    with pytest.raises(RemoteError, match="origin does not answer: it did not end within 2 seconds"):
        hasty.list_branches()
    await asyncio.wait_for(until(lambda: is_dead(int(pid.read_text()))), 30)


@pytest.mark.parametrize("held", ["> /dev/null", "2> /dev/null", ""])
def test_what_ssh_leaves_in_the_background_is_not_waited_for(
    shared: RemoteHarness, remote: Remote, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """A master connection (`ControlPersist`) keeps git's standard error open as long as it lives."""
    pids = shared.place / "pids"
    leave = f"test -s {pids} || {{ setsid sleep 1000 < /dev/null {held} & echo $! > {pids}; }}"
    put_program(shared, monkeypatch, "ssh", f'{leave}\nfor line; do :; done\nexec sh -c "$line"')
    shared.git.run("remote", "set-url", "origin", f"ssh://hub{shared.hub_path}")
    base, head = commit(shared)
    try:
        assert remote.list_branches() == {"main": base}
        master = int(pids.read_text())
        assert remote.push(head, base) == Pushed(head)
        theirs = shared.join("ann").share("By Ann", {"ann.txt": "x\n"})
        assert remote.fetch() == theirs
        assert remote.delete({"main": base}).keys() == {"main"}
        assert psutil.pid_exists(master)
    finally:
        os.kill(int(pids.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("asking", ["GIT_ASKPASS", "SSH_ASKPASS", "core.askPass"])
def test_no_dialog_for_a_password_is_opened(
    shared: RemoteHarness, remote: Remote, monkeypatch: pytest.MonkeyPatch, asking: str
) -> None:
    program = put_program(shared, monkeypatch, "dialog", 'echo "$*" >> "$(dirname "$0")/said"; sleep 1000')
    if asking == "core.askPass":
        shared.git.run("config", asking, str(program.with_name("dialog")))
    else:
        monkeypatch.setenv(asking, str(program.with_name("dialog")))
        monkeypatch.setenv("DISPLAY", ":99")
    with asking_hub() as url:
        shared.git.run("remote", "set-url", "origin", url)
        base, head = commit(shared)
        with pytest.raises(RemoteError, match="could not read Username"):
            remote.list_branches()
        assert isinstance(remote.push(head, base), Refused)
    assert not program.exists()


def test_credential_helper_that_needs_no_person_answers(
    shared: RemoteHarness, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = put_program(
        shared, monkeypatch, "helper", 'echo "$1" >> "$(dirname "$0")/said"; echo username=ada; echo password=x'
    )
    shared.git.run("config", "credential.helper", str(said.with_name("helper")))
    with asking_hub() as url:
        shared.git.run("remote", "set-url", "origin", url)
        with pytest.raises(RemoteError, match="Authentication failed"):
            remote.list_branches()
    assert said.read_text().split() == ["get", "erase"]


@pytest.mark.parametrize(
    "meddle",
    [
        pytest.param("git -C {top} update-ref {ref} {other}", id="that it moves"),
        pytest.param(": > {lock}; (sleep 0.5; rm {lock}) > {null} 2>&1 &", id="that it has locked for a moment"),
    ],
)
def test_fetch_gets_a_tracking_ref_beside_another_program(shared: RemoteHarness, remote: Remote, meddle: str) -> None:
    """An editor that fetches by itself, a push of an agent, or the git of a run that was killed."""
    tip = shared.join("bob").share("Theirs", {"theirs.txt": "x\n"})
    other = shared.commit("Other", {"other.txt": "x\n"})
    lock = shared.top / ".git" / f"{remote.tracking_ref}.lock"
    order = meddle.format(top=shared.top, ref=remote.tracking_ref, other=other, lock=lock, null=os.devnull)
    # Git has read the ref by then, and waits for the end of this program before it moves the ref.
    meddler, met = shared.place / "meddler", shared.place / "met"
    meddler.write_text(f'#!/bin/sh\ngit-upload-pack "$@"\n[ -e {met} ] || {{ : > {met}; {order}\n}}\n')
    meddler.chmod(0o755)
    branches = remote.list_branches()
    shared.git.run("config", "remote.origin.uploadpack", str(meddler))
    assert remote.fetch(branches) == tip
    assert shared.git.resolve(remote.tracking_ref) == tip
    assert met.exists()


def test_a_partial_clone_asks_nobody_for_what_it_has_not_got(
    shared: RemoteHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git would fetch missing objects in the middle of a command that has nothing to do with a remote."""
    shared.make({})
    shared.hub.run("config", "uploadpack.allowFilter", "true")
    partial = shared.place / "partial"
    Git(shared.place).run("clone", "--quiet", "--no-checkout", "--filter=blob:none", shared.url, str(partial))
    program = put_program(shared, monkeypatch, "dialog", 'echo "$*" >> "$(dirname "$0")/said"; sleep 1000')
    monkeypatch.setenv("GIT_ASKPASS", str(program.with_name("dialog")))
    with asking_hub() as url:
        git = Git(partial)
        git.run("remote", "set-url", "origin", url)
        with pytest.raises(GitError, match="could not read Username"):
            git.run("cat-file", "blob", "origin/main:README.md")
        with Objects(git) as objects, pytest.raises(GitError):
            objects.read(git.text("rev-parse", "origin/main:README.md"))
    assert not program.exists()


def test_ssh_is_told_to_ask_nobody_and_keeps_what_a_person_has_set(
    shared: RemoteHarness, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = put_program(shared, monkeypatch, "ssh", 'echo "$SSH_ASKPASS_REQUIRE $*" > "$(dirname "$0")/said"; exit 255')
    shared.git.run("remote", "set-url", "origin", "ssh://hub/x")
    shared.git.run("config", "core.sshCommand", "ssh -i /my/key")
    with pytest.raises(RemoteError):
        remote.list_branches()
    assert said.read_text().startswith("never -i /my/key -oBatchMode=yes -oConnectTimeout=")


def test_hooks_of_a_person_are_not_run_by_a_push(shared: RemoteHarness, remote: Remote) -> None:
    base, head = commit(shared)
    hook = shared.top / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert remote.push(head, base) == Pushed(head)


def test_large_files_are_pushed_first_and_without_git_lfs_nothing_is(
    shared: RemoteHarness, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = commit(shared)
    assert not remote.uses_large_files(base)
    head = shared.commit("Large", {"media/.gitattributes": "*.mp4 filter=lfs diff=lfs merge=lfs -text\n"})
    assert remote.uses_large_files(head)
    if not remote.has_lfs():
        refused = remote.push(head, base)
        assert isinstance(refused, Refused)
        assert "git-lfs is not installed" in refused.words
        assert shared.at_hub("main") == base
    body = f'[ $1 = version ] || echo "$* $(git -C {shared.hub_path} rev-parse main)" >> "$(dirname "$0")/said"'
    said = put_program(shared, monkeypatch, "git-lfs", body)
    assert remote.push(head, base) == Pushed(head)
    assert said.read_text() == f"push origin {head} {base}\n"


def test_branches_are_deleted_only_where_they_are_known_to_be(shared: RemoteHarness, remote: Remote) -> None:
    base, head = commit(shared)
    shared.git.run("push", "--quiet", "origin", f"{base}:refs/heads/feat/a", f"{head}:refs/heads/feat/b")
    assert remote.list_branches() == {"main": base, "feat/a": base, "feat/b": head}
    assert remote.delete({"feat/a": base, "feat/b": base}).keys() == {"feat/b"}
    assert shared.hub_branches() == ["feat/b", "main"]
