"""The exit code and the report of a run."""

from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.graph.task_graph import Graph, build_graph
from tasks_lib.model import Aborted, Blocked, Failed, Merged, Outcome, OutcomeName, Status, Task
from tasks_lib.reporting.run_report import EXIT_SENTENCES, ExitCode, ReportRow, find_exit_code, write_report


def make_graph(**statuses: str) -> Graph:
    """The status `human` makes an open node for a person."""
    return build_graph(
        Task(
            task_id,
            task_id,
            f"tasks/{task_id}.md",
            status=Status.PENDING if status == "human" else Status(status),
            assignee="human" if status == "human" else None,
        )
        for task_id, status in statuses.items()
    )


def judge(graph: Graph, *only: str, interrupted: bool = False, **outcomes: Outcome) -> ExitCode:
    return find_exit_code(graph, only, outcomes, is_interrupted=interrupted)


def test_everything_completed_at_the_head_is_success_even_when_interrupted() -> None:
    graph = make_graph(a="completed", b="completed")
    assert judge(graph) is ExitCode.COMPLETED
    assert judge(graph, interrupted=True) is ExitCode.COMPLETED


def test_merged_outcome_counts_only_if_the_head_confirms_it() -> None:
    assert judge(make_graph(a="pending"), a=Merged("c")) is ExitCode.BLOCKED


def test_blocked_or_failed_nodes_make_the_run_fail() -> None:
    assert judge(make_graph(a="blocked", b="completed"), a=Blocked("x")) is ExitCode.BLOCKED
    assert judge(make_graph(a="pending"), a=Failed("x")) is ExitCode.BLOCKED
    assert judge(make_graph(a="blocked")) is ExitCode.BLOCKED
    assert judge(make_graph(a="failed")) is ExitCode.BLOCKED


def test_run_waits_for_a_person_when_nothing_failed() -> None:
    assert judge(make_graph(a="completed", b="human")) is ExitCode.WAITING
    assert judge(make_graph(a="blocked", b="human")) is ExitCode.BLOCKED


def test_interruption_takes_precedence_over_unfinished_nodes() -> None:
    assert judge(make_graph(a="pending"), interrupted=True, a=Aborted("x")) is ExitCode.INTERRUPTED


def test_only_the_selection_is_judged() -> None:
    graph = make_graph(a="completed", b="blocked", c="human")
    assert judge(graph, "a") is ExitCode.COMPLETED
    assert judge(graph, "a", "b") is ExitCode.BLOCKED


def make_chain(*tasks: tuple[str, str, str]) -> Graph:
    """The graph of (id, status, the only prerequisite or "")."""
    return build_graph(
        Task(
            task_id,
            task_id,
            task_id,
            status=Status.PENDING if status == "human" else Status(status),
            depends_on=(above,) if above else (),
            assignee="human" if status == "human" else None,
        )
        for task_id, status, above in tasks
    )


def test_blocked_prerequisite_outside_the_selection_is_not_waiting_for_a_person() -> None:
    graph = make_chain(
        ("person", "human", ""), ("stuck", "blocked", ""), ("mid", "pending", "stuck"), ("a", "pending", "mid")
    )
    assert judge(graph, "a") is ExitCode.BLOCKED
    assert judge(graph, "a", "person") is ExitCode.BLOCKED


def test_run_waits_for_a_person_outside_the_selection_who_blocks_all_of_it() -> None:
    graph = make_chain(
        ("person", "human", ""), ("mid", "pending", "person"), ("a", "pending", "mid"), ("x", "blocked", "")
    )
    assert judge(graph, "a") is ExitCode.WAITING
    assert judge(graph, "a", "x") is ExitCode.BLOCKED


def test_person_elsewhere_does_not_excuse_an_unselected_prerequisite() -> None:
    graph = make_chain(("person", "human", ""), ("mid", "pending", ""), ("a", "pending", "mid"))
    assert judge(graph, "a") is ExitCode.BLOCKED


def test_report_contains_the_exit_the_messages_and_one_row_per_node() -> None:
    rows = [
        ReportRow("a", "Do a", OutcomeName.MERGED, 1, "0123456789abcdef", spent="1200 tokens, $0.42"),
        ReportRow("b", "Do | b", OutcomeName.BLOCKED, 2, "", "line one\nline two"),
        ReportRow("c", "Do c", OutcomeName.NONE),
    ]
    text = write_report("Run of x", rows, ["Queue\nheld"], ExitCode.BLOCKED, "9 turns")
    assert text.startswith("# Run of x\n")
    assert EXIT_SENTENCES[ExitCode.BLOCKED] in text
    assert "3 nodes: 1 not run, 1 Blocked, 1 Merged." in text
    assert "- Queue held\n" in text
    assert "| `a` | Do a | Merged | 1 | 1200 tokens, $0.42 | 0123456789ab |  |" in text
    assert "The sessions of this run used 9 turns." in text
    assert "| `b` | Do \\| b | Blocked | 2 |  |  | line one line two |" in text
    assert "| `c` | Do c | not run |  |  |  |  |" in text


@given(st.text(), st.text())
def test_no_text_breaks_out_of_its_row(name: str, reason: str) -> None:
    text = write_report("T", [ReportRow("a", name, OutcomeName.FAILED, 1, "", reason)], [], ExitCode.BLOCKED)
    row = text.removesuffix("\n").rpartition("|---|\n")[2]
    assert len(row.splitlines()) == 1
    assert row.replace("\\|", "").count("|") == 8


def test_every_exit_code_has_its_sentence() -> None:
    assert set(EXIT_SENTENCES) == set(ExitCode)
