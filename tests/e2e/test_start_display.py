"""What a person sees in a terminal while Prefect's server starts."""

import os
from pathlib import Path

import pytest
from e2e.conftest import Coordinator
from e2e.terminals import read_terminal, start_in_terminal
from e2e.test_messages import make_gated

from flows.server_sharing import read_running

pytestmark = pytest.mark.xdist_group("up")
CTRL_C = b"\x03"


def test_start_in_a_terminal_shows_its_seconds_until_ctrl_c_ends_it(tmp_path: Path) -> None:
    made = make_gated(tmp_path, 1, gated=0)
    (tmp_path / "data").mkdir()
    process, terminal = start_in_terminal(Coordinator(tmp_path / "data", ""), "run", str(made.repository))
    try:
        seen = read_terminal(terminal, ": 1 s")
        os.write(terminal, CTRL_C)
        rest = read_terminal(terminal)
        assert process.wait(60) == 130, seen + rest
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert "Starting the Prefect server" in seen
    assert seen.index(": 0 s") < seen.index(": 1 s")
    assert "Ctrl-C: nothing was started." in rest
    assert read_running(tmp_path / "data" / "prefect") is None
    assert made.read_journal() == []
