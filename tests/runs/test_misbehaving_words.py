"""Text from agents (output, reports, names) never sends control sequences to the user's terminal."""

import pytest
from run_harness import RunHarness

from flows.cli.commands.logs import calm
from tasks_lib.runtime.status_board import read_view

EVIL = "\\033]0;owned\\007\\033[2J\\302\\233H"
AGENT = f"""
if [ $id = b ]; then
  coordinator notify "$(printf 'see {EVIL}')"
  touch "$(printf 'name {EVIL}')"
fi
printf 'printed {EVIL}\\n'
if [ $id = c ]; then git commit -q --allow-empty -m "blocked(c): $(printf 'why {EVIL}')"; exit 0; fi
coordinator notify --level blocking "$(printf 'reason {EVIL}')"
"""


async def test_no_escape_of_an_agents_reaches_what_a_person_sees(harness: RunHarness) -> None:
    harness.make({"b": {}, "c": {}, "d": {}}, AGENT)
    worked = await harness.work()
    assert set(worked.names.values()) == {"Blocked"}
    view = read_view(harness.top / ".git" / "coordinator" / "run.json")
    assert view
    reasons = [worked.view.nodes[node_id].reason for node_id in ("b", "c", "d")]
    outcomes = [getattr(outcome, "reason", "") for outcome in worked.outcomes.values()]
    assert all("\\x1b]0;owned\\x07" in reason for reason in (*reasons, *outcomes))
    for text in (*worked.lines, *worked.view.messages, *reasons, *outcomes, str(view)):
        assert text.replace("\n", "").isprintable()
    assert any("notice (info): see" in line for line in worked.lines)


@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        (b"\x1b[1;31mred\x1b[0m\r\n\tx", b"\x1b[1;31mred\x1b[0m\r\n\tx"),
        (b"\x1b]0;title\x07\x1b[2J\x1bc", b"]0;title[2Jc"),
        (b"a\xc2\x9b2Jb\x08\x0e", b"a2Jb"),
        ("é ✓ 日本".encode(), "é ✓ 日本".encode()),
        (b"cut \x1b", b"cut "),
        (b"cut \x1b[3", b"cut [3"),
    ],
)
def test_log_on_a_terminal_keeps_its_colours_alone(printed: bytes, seen: bytes) -> None:
    assert calm(printed) == seen
