"""A repository for each test, copied from a template and isolated from the settings of the user who runs the tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from matrix.checkout_states import UserCheckout, make_template
from run_harness import RunHarness, open_harness


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give git and the coordinator an environment of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in list(os.environ):
        if name.startswith(("COORDINATOR_", "PREFECT_", "XDG_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that every test of a module copies and none changes."""
    return make_template(tmp_path_factory.mktemp("template") / "repository")


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> UserCheckout:
    """A copy of the template that the test may change freely."""
    return UserCheckout.copy(template, tmp_path / "repository")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[RunHarness]:
    """A harness for runs in one repository."""
    with open_harness(tmp_path) as made:
        yield made
