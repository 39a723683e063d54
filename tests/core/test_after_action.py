"""The after-action report: what it makes of a journal, of commits, and of task files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from tasks_lib.model import Risk, Scope, Status, Task
from tasks_lib.reporting.action_items import MAX_ITEMS, render_item
from tasks_lib.reporting.after_action import AfterActionReport, write_after_action
from tasks_lib.reporting.after_action_text import write_markdown
from tasks_lib.reporting.makespan import find_longest_path, find_peak
from tasks_lib.reporting.node_timeline import build_timelines
from tasks_lib.reporting.run_facts import RunCommit, RunFacts, join_periods, parse_journal
from tasks_lib.taskfile.parsing import parse_task

BEGIN = 1_800_000_000
Line = tuple[float, str, str, Mapping[str, object]]


def write(*lines: Line) -> str:
    """A journal; times are seconds after the run's begin."""
    rows = [{"event": event, "node": node, "at": stamp(at), **facts} for at, event, node, facts in lines]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def stamp(at: float) -> str:
    return f"2027-01-15T08:{int(at) // 60:02}:{at % 60:06.3f}+00:00"


def stage(at: float, node: str, name: str, **facts: object) -> Line:
    return (at, "stage", node, {"stage": name, "attempt": 1, **facts})


def end(at: float, node: str, outcome: str = "Merged", **facts: object) -> Line:
    return (at, "ended", node, {"outcome": outcome, "attempt": 1, "commit": f"c-{node}", **facts})


def turn(at: float, node: str, seconds: float, **facts: object) -> Line:
    return (at, "session.turned", node, {"role": "dev", "seconds": seconds, **facts})


def land(at: float, node: str, **lines: int) -> RunCommit:
    trailers = {"Task": node, "Run": "r", "Attempt": "1"}
    return RunCommit(f"c-{node}", BEGIN + at, "Coordinator", f"Merge feat/{node}: {node}", trailers, lines)


def task(task_id: str, *needed: str, scope: Scope | None = None, risk: Risk | None = None) -> Task:
    return Task(task_id, task_id, f"tasks/{task_id}.md", depends_on=needed, scope=scope, risk=risk)


BEGUN: Line = (0, "begun", "", {"run": "r", "sessions": 2})
RUN = (
    BEGUN,
    stage(1, "a", "worktree"),
    stage(1, "a", "session"),
    turn(11, "a", 10, tokens=100, cost=0.5, model="m/one"),
    stage(11, "a", "queued"),
    stage(13, "a", "verify"),
    end(18, "a"),
    stage(20, "b", "session"),
    turn(26, "b", 6, tokens=50, model="m/two", role="reviewer"),
    stage(26, "b", "given back"),
    (26, "merge.refused", "b", {"cause": "conflict", "paths": ["x.py"], "reason": "conflicts with the head in x.py"}),
    (30, "node.waited", "b", {"cause": "slot", "seconds": 3.0}),
    stage(30, "b", "session"),
    turn(33, "b", 3, stall="sleep 100"),
    stage(33, "b", "verify", detail="before its review"),
    stage(35, "b", "verify"),
    end(39, "b"),
    (40, "judged", "", {"exit_code": 0}),
)
TASKS = (task("a", scope=Scope.SINGLE), task("b", "a", scope=Scope.BROAD, risk=Risk.HIGH))
COMMITS = (land(18, "a", **{"x.py": 30}), land(39, "b", **{"x.py": 10, "y.py": 5}))


def gather(*lines: Line, tasks: Sequence[Task] = TASKS, commits: Sequence[RunCommit] = COMMITS) -> RunFacts:
    entries, unread = parse_journal(write(*lines))
    assert unread == 0
    joined, periods = join_periods(entries)
    return RunFacts(("r",), joined, tuple(commits), {one.id: one for one in tasks}, 2, periods)


def report(*lines: Line, **given: Sequence[Task] | Sequence[RunCommit]) -> AfterActionReport:
    return write_after_action("r", gather(*lines, **given))  # pyright: ignore[reportArgumentType]


def test_the_time_of_a_node_is_divided_by_what_it_waited_for() -> None:
    made = build_timelines(gather(*RUN))
    first, second = made["a"], made["b"]
    assert {str(span.cause): span.seconds for span in first.spans} == {"work": 10, "queue": 2, "verify": 5}
    totals: dict[str, float] = {}
    for span in second.spans:
        totals[str(span.cause)] = totals.get(str(span.cause), 0) + span.seconds
    assert totals == {"dependency": 17, "slot": 2 + 3, "work": 6 + 1 + 3, "queue": 2, "verify": 4}
    assert (second.before, second.ready - first.ended) == ("a", 0)


def test_a_moment_of_waiting_before_its_first_stage_does_not_begin_a_node() -> None:
    early = (0.5, "node.waited", "a", {"cause": "slot", "seconds": 0.1})
    assert build_timelines(gather(*RUN[:1], early, *RUN[1:]))["a"].ready == 1


def test_the_chain_adds_up_to_the_run_and_names_what_made_the_difference() -> None:
    makespan = report(*RUN).figures.makespan
    assert makespan.seconds == 40
    assert makespan.bounds == {"path": 15 + 14, "sessions": (10 + 10) / 2, "verify": 9}
    assert (makespan.bound, makespan.bound_seconds, makespan.path) == ("path", 29, ("a", "b"))
    assert [link.node for link in makespan.chain] == ["", "a", "b", ""]
    assert sum(makespan.by_cause.values()) == makespan.seconds
    assert makespan.by_cause == {"work": 20, "verify": 9, "slot": 5, "queue": 4, "run": 2}


def test_turns_are_added_up_by_node_role_and_model_and_compared_with_landed_lines() -> None:
    figures = report(*RUN).figures
    spending = figures.spending
    assert (spending.total.tokens, spending.total.cost, spending.total.turns) == (150, 0.5, 3)
    assert {role: spent.tokens for role, spent in spending.by_role.items()} == {"dev": 100, "reviewer": 50}
    assert {model: spent.turns for model, spent in spending.by_model.items()} == {
        "m/one": 1,
        "m/two": 1,
        "(not named)": 1,
    }
    assert figures.lines == {"a": 30, "b": 15}
    assert figures.tokens_a_line == 150 / 45
    assert (figures.parallelism.peak, figures.parallelism.mean) == (1, 19 / 40)
    estimates = {(one.key, one.value): one for one in figures.estimates}
    assert (estimates["scope", "broad"].expected, estimates["scope", "broad"].actual) == (4 / 5, 14 / 29)
    assert (estimates["risk", "high"].expected, estimates["risk", "high"].actual) == (0.65, 0)


def test_every_line_has_its_evidence_and_the_markdown_the_form_of_the_seed() -> None:
    made = report(*RUN)
    lines = (*made.went_right, *made.went_wrong, *made.could_be_better)
    assert all(line.evidence for line in lines)
    assert all(item.evidence for item in made.action_items)
    text = write_markdown(made)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads[:5] == [
        "# AAR: r",
        "## What Went Right",
        "## What Went Wrong",
        "## What Could Be Better",
        "## Action Items",
    ]
    assert "x.py serialises work: 2 nodes changed it, and it was in conflict once." in text
    assert "commit c-a" in text
    assert json.loads(json.dumps(made.to_json()))["figures"]["makespan"]["bound"] == "path"


BLOCKED = (
    BEGUN,
    stage(1, "a", "session"),
    end(5, "a", "Blocked", reason="which rate?", kind="context"),
    stage(30, "a", "session"),
    end(34, "a"),
    (34, "judged", "", {"exit_code": 0}),
)
ANSWER = RunCommit("c-r", 1_799_999_999, "P", "resolved(resolve-a-1): 20 percent", {"Task": "resolve-a-1"})


def at_second(second: float) -> RunCommit:
    first = parse_journal(write(BEGUN))[0][0]
    return RunCommit("c-r", first.at + second, ANSWER.author, ANSWER.subject, ANSWER.trailers)


def test_a_blocker_waits_for_a_person_until_it_is_answered_and_says_how_it_ended() -> None:
    tasks = (task("a", "resolve-a-1"), task("resolve-a-1"))
    made = report(*BLOCKED, tasks=tasks, commits=(at_second(25),))
    assert (made.figures.waits["person"], made.figures.waits["slot"]) == (20, 5)
    [blocker] = made.figures.trouble.blockers
    assert blocker.ended == "a person answered: 20 percent; it landed"
    assert made.action_items[0].text == 'Write down the answer to "which rate?"'
    assert made.action_items[0].why == 'a asked "which rate?", and a person answered: 20 percent.'
    still = report(*BLOCKED[:3], tasks=tasks, commits=())
    assert still.figures.trouble.blockers[0].ended == "still open"
    assert still.exit_code is None
    assert still.action_items[0].task == "a"


def test_a_blocker_that_is_answered_after_the_run_says_so_with_its_evidence() -> None:
    tasks = (task("a", "resolve-a-1"), task("resolve-a-1"))
    facts = gather(*BLOCKED[:3], (6, "judged", "", {"exit_code": 1}), tasks=tasks, commits=())
    later = (at_second(60), replace(land(80, "a"), trailers={"Task": "a", "Run": "s"}))
    made = write_after_action("r", replace(facts, later=later))
    [blocker] = made.figures.trouble.blockers
    assert blocker.ended == "still open when the run ended; afterwards a person answered: 20 percent; it landed"
    assert [str(one) for one in blocker.evidence[1:]] == ["commit c-r", "commit c-a"]
    assert [item.text for item in made.action_items] == ['Write down the answer to "which rate?"']
    assert made.figures.landed == {}
    by_hand = {**facts.tasks, "resolve-a-1": replace(tasks[1], status=Status.COMPLETED)}
    [blocker] = write_after_action("r", replace(facts, tasks=by_hand)).figures.trouble.blockers
    assert blocker.ended == "still open when the run ended; afterwards resolve-a-1 was completed"
    assert [one.ref for one in blocker.evidence[1:]] == ["resolve-a-1"]


def test_all_answers_are_one_action_item_and_a_turn_that_hung_twice_too() -> None:
    lines = (
        BEGUN,
        (2, "node.answered", "a", {"kind": "context", "reason": "which rate?", "how": "supplied context: 20 percent."}),
        (3, "node.answered", "b", {"kind": "context", "reason": "which year?", "how": "supplied context: this one"}),
        turn(4, "a", 1, stall="sleep 100"),
        turn(6, "a", 1, stall="sleep 100"),
        (9, "judged", "", {"exit_code": 1}),
    )
    answers, hung = report(*lines).action_items
    assert answers.text == "Write down the answers to 2 questions that agents stopped to ask"
    assert 'b asked "which year?", and a resolver supplied context: this one.' in answers.why
    assert (len(answers.criteria), len(answers.evidence)) == (2, 2)
    assert (hung.text, len(hung.evidence)) == ("Find out why a turn of a hung", 2)


def test_what_a_review_node_found_is_reported_with_its_follow_up_tasks() -> None:
    found = {"verdict": "changes requested", "objection": "the review asks for changes", "findings": ["x.py:1: bad"]}
    trailers = {"Task": "r", "Run": "r"}
    request = RunCommit("c-q", BEGIN + 5, "Coordinator", "requested(r): follow-up-r-1, follow-up-r-2", trailers)
    made = report(BEGUN, stage(1, "r", "session"), (5, "session.reviewed", "r", found), commits=(request,))
    [line] = [one for one in made.could_be_better if one.text.startswith("Reviews of r")]
    assert line.text == "Reviews of r asked for: x.py:1: bad (to be done by follow-up-r-1, follow-up-r-2)."
    assert [str(one) for one in line.evidence] == ["session.reviewed of r at 08:00:05.000", "commit c-q"]
    [line] = [one for one in report(BEGUN, commits=(request,)).could_be_better if "Reviews of r" in one.text]
    assert line.text == "Reviews of r asked for: what follow-up-r-1, follow-up-r-2 had to do."


def test_a_conflict_that_was_expected_and_did_not_come_is_a_false_alarm() -> None:
    expected = (2, "conflict-expected", "a", {"other": "b", "paths": "z.py"})
    came = (3, "conflict-expected", "b", {"other": "a", "paths": "x.py, y.py"})
    alarms = report(*RUN, expected, came).figures.trouble.alarms
    assert [(one.node, one.about) for one in alarms] == [("a", "conflict")]


def test_the_time_between_a_run_and_the_run_that_continues_it_does_not_count() -> None:
    first = (BEGUN, stage(1, "a", "session"))
    again = ((100, "begun", "", {"run": "r", "sessions": 2}), stage(101, "a", "session"), end(103, "a"))
    made = report(*first, *again, tasks=TASKS[:1], commits=COMMITS[:1])
    assert made.figures.makespan.seconds == 1 + 3


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"event": "x", "at": "now"}', '{"event": "stage"}', "null"])
def test_a_line_that_cannot_be_read_is_counted_and_the_others_are_read(line: str) -> None:
    entries, unread = parse_journal(f"{write(BEGUN)}{line}\n\n{write(stage(1, 'a', 'session'))}")
    assert (len(entries), unread) == (2, 1)


def test_a_run_without_any_record_is_reported_as_empty() -> None:
    made = write_after_action("r", RunFacts(("r",), missing=("The journal is gone.",)))
    assert "The journal is gone." in write_markdown(made)
    assert made.figures.makespan.chain == ()


def test_an_action_item_becomes_a_valid_task_file_with_its_evidence() -> None:
    made = report(*RUN)
    assert 0 < len(made.action_items) <= MAX_ITEMS
    for number, item in enumerate(made.action_items):
        text = render_item(item, f"aar-{number}", "r", ["r"])
        parsed, faults = parse_task(text.encode(), "tasks/x.md")
        assert parsed is not None
        assert faults == ()
        assert (parsed.is_human, parsed.scope) == (item.is_for_person, item.scope)
        assert all(f"- {one.cite()}" in text for one in item.evidence)


def test_intervals_that_touch_do_not_overlap_and_a_path_is_as_long_as_its_nodes() -> None:
    assert find_peak([(0, 2), (2, 4), (1, 3)]) == (2, 1)
    tasks = {one.id: one for one in (task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c", "x"))}
    assert find_longest_path({"a": 1, "b": 5, "c": 2, "d": 1}, tasks) == (7, ("a", "b", "d"))
