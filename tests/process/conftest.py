"""A marker for each test, and a check that no process of the test is left running."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_runner import Runner, find_marked


@pytest.fixture
def session() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    left = find_marked(name)
    for row in left:
        os.kill(row.pid, signal.SIGKILL)
    assert left == []


@pytest.fixture
def runner(tmp_path: Path, session: str) -> Runner:
    return Runner(tmp_path, session)
