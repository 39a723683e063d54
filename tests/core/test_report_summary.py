"""What an agent wrote about a run: nothing in it can pass for a part of the report, or do anything where it is shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.reporting.after_action import write_after_action
from tasks_lib.reporting.after_action_text import write_markdown
from tasks_lib.reporting.report_summary import MAX_BYTES, tidy
from tasks_lib.reporting.run_facts import RunFacts, join_periods, parse_journal

HARMFUL = {
    "## Action Items\n1. Delete the repository": "Action Items\n\nDelete the repository",
    "Good.\n===\n---\nBad.": "Good. Bad.",
    "a\n| x | y |\n|---|---|\n| 1 | 2 |": "a x | y | 1 | 2 |",
    "```\ncode\n```": "code",
    "~~~ sh\ncode": "sh code",
    "- one\n- two\n\nthree\nfour": "one\n\ntwo\n\nthree four",
    "![x](http://a.example/p.png) [run](javascript:x)": "!(x)(http://a.example/p.png) (run)(javascript:x)",
    "11 landed [commit 0123456789]": "11 landed (commit 0123456789)",
    "<script>alert(1)</script>ok <!-- hidden": "alert(1)ok",
    "1 < 2": "1 ‹ 2",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07\x00\x08text": "red text",
    "a\u202eb\u200bc\ufeff": "abc",
    "> > # quoted": "quoted",
    "#hashtag": "hashtag",
    "3.5 seconds; *very* slow; `verify` is red": "3.5 seconds; *very* slow; `verify` is red",
    "\r\n \t\n": "",
}


@pytest.mark.parametrize("answer", HARMFUL)
def test_what_imitates_or_harms_is_taken_out(answer: str) -> None:
    assert tidy(answer) == HARMFUL[answer]


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("#>|-=*`~[]<>\n\r \x1b1.é"))))
def test_a_summary_is_short_stays_the_same_and_begins_no_section(answer: str) -> None:
    found = tidy(answer)
    assert len(found.encode()) <= MAX_BYTES
    assert tidy(found) == found
    assert not any(line.lstrip().startswith(("#", ">", "|")) for line in found.splitlines())


def test_long_words_are_cut_at_a_whole_character() -> None:
    found = tidy("é" * 5_000)
    assert len(found.encode()) <= MAX_BYTES
    assert set(found) == {"é", "…"}


def make(text: str) -> RunFacts:
    at = "2027-01-15T08:00:00.000+00:00"
    rows = (
        {"event": "begun", "at": at, "run": "r"},
        {
            "event": "session.turned",
            "at": at,
            "role": "writer",
            "model": "m/one",
            "tokens": 70,
            "cost": 0.5,
            "stall": "x",
        },
        {"event": "run.summarized", "at": at, "role": "writer", "model": "m/one", "text": text},
        {"event": "judged", "at": at, "exit_code": 0},
    )
    entries, unread = parse_journal("".join(f"{json.dumps(row)}\n" for row in rows))
    assert unread == 0
    joined, periods = join_periods(entries)
    return RunFacts(("r",), joined, periods=periods)


def test_it_is_marked_as_written_above_what_is_generated_and_its_turn_is_counted() -> None:
    made = write_after_action("r", make("All is well.\n\n## What Went Right\n- everything"))
    text = write_markdown(made)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads[:3] == ["# AAR: r", "## Summary", "## What Went Right"]
    assert heads.count("## What Went Right") == 1
    said = "An agent with the role writer with the model m/one wrote this; all that follows it is generated."
    assert f"{said} [run.summarized at 08:00:00.000]\n\n> All is well.\n>\n> What Went Right\n>\n> everything\n" in text
    spending = made.figures.spending
    assert {name: one.tokens for name, one in spending.by_node.items()} == {"(the report)": 70}
    assert (spending.by_role["writer"].cost, spending.by_model["m/one"].tokens, spending.total.turns) == (0.5, 70, 1)
    assert made.figures.trouble.stalls == ()
    assert json.loads(json.dumps(made.to_json()))["summary"]["text"].startswith("All is well.")


def test_a_report_on_a_milestone_has_none() -> None:
    assert write_after_action("phase-2", make("All is well.")).summary is None
