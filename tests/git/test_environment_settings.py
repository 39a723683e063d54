"""Git settings that a user gives in variables, as CI systems do: which count, and who commits by them."""

import pytest

from tasks_lib.git.environment_settings import read_environment_settings, write_environment_settings
from tasks_lib.git.repository import COORDINATOR_IDENTITY, Repository


def test_settings_come_in_gits_order_and_a_key_may_occur_twice() -> None:
    settings = [("safe.directory", "/a"), ("safe.directory", "/b"), ("url.file:///x.insteadOf", "")]
    assert read_environment_settings({**write_environment_settings(settings), "GIT_CONFIG_KEY_3": "a.b"}) == settings


@pytest.mark.parametrize("count", ["", "x", "-1", "²", "3", "99999999999"])
def test_count_that_git_would_refuse_means_no_settings(count: str) -> None:
    given = write_environment_settings([("a.b", "c")])
    assert read_environment_settings({**given, "GIT_CONFIG_COUNT": count}) == []


def test_what_describes_one_repository_does_not_count() -> None:
    given = [
        ("core.Bare", "true"),
        ("core.worktree", "/"),
        ("extensions.partialClone", "x"),
        ("bare", "x"),
        ("a.b", ""),
    ]
    assert read_environment_settings(write_environment_settings(given)) == [("a.b", "")]


@pytest.mark.parametrize("kind", ["variables", "settings"])
def test_identity_that_only_the_environment_has_is_written_out_for_agents(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for key in ("user.name", "user.email"):
        repository.git.run("config", "--unset-all", key, accept=(0, 5))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    assert repository.identity() == COORDINATOR_IDENTITY
    if kind == "settings":
        given = write_environment_settings([("user.name", "A. N. Other <x>"), ("user.email", "ano@example.org")])
    else:
        given = {"GIT_AUTHOR_NAME": "A. N. Other", "GIT_COMMITTER_NAME": "A. N. Other", "EMAIL": "ano@example.org"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = repository.identity()
    assert {found["GIT_AUTHOR_EMAIL"], found["GIT_COMMITTER_EMAIL"]} == {"ano@example.org"}
    assert found["GIT_AUTHOR_NAME"].startswith("A. N. Other")
    assert found["GIT_AUTHOR_NAME"] == found["GIT_COMMITTER_NAME"]
