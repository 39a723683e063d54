"""A run in a checkout as hosted CI systems make it: detached, shallow, of another owner, with git's settings in variables.

There is no home, no terminal and no identity, as in a container. The commands are those that actions/checkout and GitLab's
runner use; the remote's address works only with the settings in the environment.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from e2e.conftest import Coordinator
from push.remote_harness import RemoteHarness
from user_isolation import isolate_user_settings

pytestmark = pytest.mark.xdist_group("prefect")

ADDRESS = "https://git.example.invalid/hub.git"
OUTSIDE = "env -u GIT_TEST_ASSUME_DIFFERENT_OWNER"
FETCH = "git -c protocol.version=2 fetch -q --no-tags --prune --no-recurse-submodules"
CHECKOUTS = {
    "GitHub, a push": (
        f"{FETCH} --depth=1 origin +$SHA:refs/remotes/origin/main",
        "git checkout -q --force -B main refs/remotes/origin/main",
    ),
    "GitHub, detached": (
        f"{FETCH} --depth=1 origin +$SHA:refs/remotes/pull/1/merge",
        "git checkout -q --force refs/remotes/pull/1/merge",
    ),
    "GitHub, blobless": (
        f"{FETCH} --filter=blob:none --depth=1 origin +$SHA:refs/remotes/pull/1/merge",
        "git checkout -q --force refs/remotes/pull/1/merge",
    ),
    "GitLab": (
        "git config fetch.recurseSubmodules false",
        "git fetch -q origin +$SHA:refs/pipelines/7 --depth 20 --prune --quiet --no-tags",
        "git checkout -f -q $SHA",
    ),
}


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteHarness:
    """A remote with three commits and one task, which CI systems may fetch from in parts."""
    isolate_user_settings(monkeypatch, tmp_path)
    harness = RemoteHarness(tmp_path)
    harness.make({"a": {}}, target="main", verify=["test -f a.txt"], env={"agent": ["GIT_TEST_*"]})
    for number in range(2):
        harness.join(f"p{number}").share(f"Commit {number}", {f"{number}.txt": "x\n"})
    for name in ("allowFilter", "allowAnySHA1InWant"):
        harness.hub.run("config", f"uploadpack.{name}", "true")
    return harness


def make_variables(shared: RemoteHarness, **settings: str) -> dict[str, str]:
    """The environment of a job: no home, no terminal, and git's settings in variables."""
    given = {
        f"url.file://{shared.place}/.insteadOf": "https://git.example.invalid/",
        "safe.directory": "*",
        # The server is not in the container, and has its own idea of owners.
        "remote.origin.uploadpack": f"{OUTSIDE} git-upload-pack",
        "remote.origin.receivepack": f"{OUTSIDE} git-receive-pack",
        "http.https://git.example.invalid/.extraHeader": "AUTHORIZATION: basic secret",
        **settings,
    }
    numbered = [
        (f"GIT_CONFIG_{part}_{number}", word)
        for number, pair in enumerate(given.items())
        for part, word in zip(("KEY", "VALUE"), pair, strict=True)
    ]
    return {
        "GIT_CONFIG_COUNT": str(len(given)),
        **dict(numbered),
        "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1",
        "HOME": "/proc/no-home",
        "TERM": "",
        "CI": "true",
    }


def check_out(shared: RemoteHarness, lines: tuple[str, ...], variables: Mapping[str, str]) -> Path:
    """Make a checkout of the remote's main with the commands of a CI system; return its directory."""
    top = shared.place / "builds" / "project"
    top.mkdir(parents=True)
    script = "\n".join(["set -e", "git init -q -b nothing", f"git remote add origin {ADDRESS}", *lines])
    environment = {**os.environ, **variables, "SHA": shared.at_hub("main")}
    subprocess.run(["sh", "-c", script], cwd=top, env=environment, check=True)
    return top


@pytest.mark.parametrize("lines", CHECKOUTS.values(), ids=CHECKOUTS.keys())
def test_checkout_of_a_ci_system_lands_on_its_remote(
    coordinator: Coordinator, shared: RemoteHarness, lines: tuple[str, ...]
) -> None:
    variables = make_variables(shared)
    top = check_out(shared, lines, variables)

    code, output = coordinator.run("run", top, extra=variables)

    assert code == 0, output
    assert "a: Merged" in output
    assert shared.hub_log() == ["Merge feat/a: Do a", "Commit 1", "Commit 0", "Begin"]
    assert shared.hub_log("%an <%ae>")[0] == "Coordinator <coordinator@localhost>"
    seen = "\n".join(shared.journal.variables("a-1-1").values())
    assert "insteadOf" not in seen
    assert "AUTHORIZATION" not in seen
    # A second run finds the result, from which there is nothing left to do.
    code, output = coordinator.run("run", top, extra=variables)
    assert code == 0, output


def test_user_without_a_home_and_without_a_name_needs_only_a_data_directory(
    coordinator: Coordinator, shared: RemoteHarness
) -> None:
    stranger = ["unshare", "--user", "--map-user=54321", "env", "-u", "HOME", "-u", "TERM"]
    if subprocess.run([*stranger, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process be another user in a namespace of its own")
    variables = {**coordinator.environment(), **make_variables(shared)}
    top = check_out(shared, CHECKOUTS["GitHub, detached"], variables)

    def run(*without: str) -> "subprocess.CompletedProcess[str]":
        command = [*stranger, *without, sys.executable, "-m", "flows.cli", "run", str(top)]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    refused = run("-u", "COORDINATOR_DATA_DIR")
    assert (refused.returncode, "Set COORDINATOR_DATA_DIR" in refused.stderr) == (2, True), refused.stderr
    done = run()
    assert done.returncode == 0, done.stderr
    assert shared.hub_log()[0] == "Merge feat/a: Do a"
