"""Breaks each promise about commits and task files once; the checker must report it."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from checker import Meant, check, snapshot_user_state
from checker_texts import find_text_faults
from generated_graphs import run_git
from history_writer import PATHS, START, STATUSES, TRAILERS, VERIFY, HistoryWriter, assert_says, write_rest, write_task


@pytest.fixture
def writer(tmp_path: Path) -> HistoryWriter:
    return HistoryWriter(tmp_path)


def test_a_run_that_kept_its_promises_has_no_faults(writer: HistoryWriter) -> None:
    write_rest(writer)
    assert writer.read_faults(verify=VERIFY) == []


def test_a_red_merge_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", files={"src/a.txt": "BROKEN\n"})
    writer.merge("b/c", files={"src/a.txt": "fixed\n"})
    write_rest(writer, "a", "b/c")
    faults = writer.read_faults(verify=VERIFY)
    assert_says(faults, "Merge feat/a", "is red")
    assert len(faults) == 1


def test_a_sample_holds_the_first_and_the_last_merge(writer: HistoryWriter) -> None:
    writer.merge("a", files={"src/a.txt": "BROKEN\n"})
    writer.merge("b/c")
    write_rest(writer, "a", "b/c")
    assert len([fault for fault in writer.read_faults(verify=VERIFY, sample=2) if "is red" in fault]) == 2


def test_a_dependent_that_landed_first_is_said(writer: HistoryWriter) -> None:
    writer.merge("b/c")
    write_rest(writer, "b/c")
    assert_says(writer.read_faults(), "Merge feat/b/c", "landed before a")


def test_a_second_merge_of_a_node_is_said(writer: HistoryWriter) -> None:
    write_rest(writer)
    writer.merge("a", completes=False, files={"src/again.txt": "again\n", "src/a.txt": "a again\n"})
    assert_says(writer.read_faults(), "a landed 2 times")


def test_missing_trailers_are_said(writer: HistoryWriter) -> None:
    writer.merge("a", trailers={"Task": "a"})
    write_rest(writer, "a")
    faults = writer.read_faults()
    for name in TRAILERS:
        assert_says(faults, "Merge feat/a", f"lacks the trailer {name}")


def test_a_merge_without_its_task_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", trailers=TRAILERS)
    write_rest(writer, "a")
    assert_says(writer.read_faults(), "Merge feat/a", "was not made by the coordinator")


def test_a_commit_by_somebody_else_is_said_unless_it_is_known(writer: HistoryWriter) -> None:
    other = writer.advance([writer.head], "Tidy up", {"src/other.txt": "other\n"}, {"Note": "by hand"})
    write_rest(writer)
    assert_says(writer.read_faults(), "Tidy up", "was not made by the coordinator")
    assert writer.read_faults(foreign=[other]) == []


def test_a_report_on_a_run_is_no_fault_unless_it_does_more_than_to_add_one_file(writer: HistoryWriter) -> None:
    writer.advance([writer.head], "Report on run r1", {"docs/r1.md": "# Report\n"}, {"Run": "r1"})
    write_rest(writer)
    assert writer.read_faults() == []
    writer.advance([writer.head], "Report on run r2", {"docs/r1.md": "# Other\n"}, {"Run": "r2"})
    assert_says(writer.read_faults(), "Report on run r2", "does more than to add a report")


def test_a_squashed_merge_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", parents=[writer.head])
    write_rest(writer, "a")
    assert_says(writer.read_faults(), "Merge feat/a", "1 parents, not 2")


def test_a_merge_of_nothing_is_said(writer: HistoryWriter) -> None:
    root = writer.head
    writer.merge("a")
    writer.merge("b/c", parents=[writer.head, root])
    write_rest(writer, "a", "b/c")
    assert_says(writer.read_faults(), "Merge feat/b/c", "merges nothing new")


def test_a_subject_that_names_another_node_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", subject="Merge feat/e: Do e")
    write_rest(writer, "a")
    assert_says(writer.read_faults(), "does not say a and its name")


def test_a_landing_that_does_not_complete_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", completes=False)
    write_rest(writer, "a")
    assert_says(writer.read_faults(), "does not complete a")


def test_a_merge_that_completes_another_node_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", files=writer.complete("e"))
    write_rest(writer, "a")
    faults = writer.read_faults(statuses={**STATUSES, "e": "completed"})
    assert_says(faults, "Merge feat/a", "completes e")
    assert_says(faults, "tasks/e.md", "another node's task file changed")


def test_a_node_that_is_no_longer_completed_is_said(writer: HistoryWriter) -> None:
    writer.merge("a")
    writer.merge("b/c", files={PATHS["a"]: START[PATHS["a"]]})
    write_rest(writer, "a", "b/c")
    assert_says(writer.read_faults(statuses={**STATUSES, "a": "pending"}), "a is no longer completed", "Merge feat/b/c")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: Do a", "name: Do A", "front matter changed"),
        ("  # by hand", "", "front matter changed"),
        ("   # for now", "", "front matter changed"),
        ("status: completed", "status:   completed", "front matter changed"),
        ("[]   # in order", "[r]   # in order", "depends_on changed"),
        ("Do it.", "Do it!", "body changed"),
        ("## Description", "## Extra\nmore\n\n## Description", "body changed"),
        ("level: implementation\n", "", "front matter changed"),
        ("---\nid", "\ufeff---\nid", "byte order mark"),
        ("Did it.\n", "Did it.\r\n", "CRLF in a file of LF"),
    ],
)
def test_a_line_of_the_task_file_that_was_not_meant_is_said(old: str, new: str, said: str) -> None:
    before = write_task("a")
    after = f"{before.replace('status: pending', 'status: completed')}\n## Summary\nDid it.\n"
    assert find_text_faults(before.encode(), after.encode()) == []
    assert old in after
    assert_says(find_text_faults(before.encode(), after.replace(old, new, 1).encode()), said)


def test_a_description_that_a_merge_changed_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", files={PATHS["a"]: writer.complete("a")[PATHS["a"]].replace("Do it.", "Do it!")})
    write_rest(writer, "a")
    assert_says(writer.read_faults(), "Merge feat/a", "tasks/a.md", "body changed")


def test_endings_that_were_not_kept_are_said(writer: HistoryWriter) -> None:
    writer.merge("a")
    text = writer.complete("b/c")[PATHS["b/c"]]
    writer.merge("b/c", files={PATHS["b/c"]: text.replace("Did it.\r\n", "Did it.\n")})
    write_rest(writer, "a", "b/c")
    assert_says(writer.read_faults(), "tasks/deep/b.md", "LF in a file of CRLF")


def test_a_heading_in_a_code_fence_opens_no_section(writer: HistoryWriter) -> None:
    fenced = "\n```\n## Notes\n{}\n```\n"
    writer.texts[PATHS["a"]] += fenced.format("one")
    writer.head = writer.commit([writer.head], "Fence it", {PATHS["a"]: writer.texts[PATHS["a"]]})
    writer.publish()
    writer.before = snapshot_user_state(writer.repo)
    text = writer.complete("a")[PATHS["a"]]
    writer.merge("a", files={PATHS["a"]: text.replace("one", "two")})
    write_rest(writer, "a")
    assert_says(writer.read_faults(), "tasks/a.md", "body changed")


def test_a_task_file_that_is_gone_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", files={PATHS["e"]: None})
    write_rest(writer, "a")
    faults = writer.read_faults()
    assert_says(faults, "tasks/e.md", "gone")
    assert_says(faults, "no task file has the id e")


def test_a_task_that_was_added_by_an_implementation_is_said(writer: HistoryWriter) -> None:
    writer.merge("a", files={"tasks/new.md": write_task("new")})
    write_rest(writer, "a")
    faults = writer.read_faults()
    assert_says(faults, "Merge feat/a", "the task new was added")
    assert_says(faults, "the task new was not meant to exist")


def test_a_blocker_that_changes_sources_is_said(writer: HistoryWriter) -> None:
    writer.merge("a")
    writer.block("d", files={"src/partial.txt": "half\n"})
    write_rest(writer, "a", "d")
    assert_says(writer.read_faults(), "blocked(d)", "src/partial.txt, which is not a task file")


def test_a_resolve_task_that_a_person_completed_is_no_fault(writer: HistoryWriter) -> None:
    write_rest(writer)
    writer.resolve("resolve-d-1")
    assert writer.read_faults(statuses={**STATUSES, "resolve-d-1": "completed"}) == []


def test_a_resolution_that_changes_sources_or_names_another_node_is_said(writer: HistoryWriter) -> None:
    write_rest(writer)
    writer.resolve("resolve-d-1", files={"src/key.txt": "1\n"}, subject="resolved(d): Use it.")
    faults = writer.read_faults(statuses={**STATUSES, "resolve-d-1": "completed"})
    assert_says(faults, "resolved(d)", "src/key.txt, which is not a task file")
    assert_says(faults, "resolved(d)", "does not say resolve-d-1")


def test_a_check_that_changes_sources_is_said(writer: HistoryWriter) -> None:
    writer.merge("a")
    writer.check("r", files={"src/review.txt": "seen\n"})
    write_rest(writer, "a", "r")
    assert_says(writer.read_faults(), "Check r", "src/review.txt, which is not a task file")


def test_a_blocker_that_loses_a_dependency_or_a_comment_is_said(writer: HistoryWriter) -> None:
    writer.merge("a")
    wanted = writer.commit([writer.head], "try", {})
    writer.block("d")
    text = writer.texts[PATHS["d"]]
    for new, said in (
        ("[resolve-d-1]   # in order", "may be added, at the end"),
        ("[a, resolve-d-1]", "lost its comment"),
    ):
        writer.head = wanted
        writer.block("d", files={PATHS["d"]: text.replace("[a, resolve-d-1]   # in order", new)})
        run_git(writer.repo, "reset", "-q", "--hard", writer.head)
        faults = check(writer.repo, before=writer.before, meant=Meant(STATUSES))
        assert_says(faults, "tasks/d.md", said)


def test_a_block_list_that_was_written_anew_is_said(writer: HistoryWriter) -> None:
    writer.texts[PATHS["d"]] = writer.texts[PATHS["d"]].replace(
        "depends_on: [a]   # in order", "depends_on:\n  - a\n  - 'r'"
    )
    writer.head = writer.commit([writer.head], "List it", {PATHS["d"]: writer.texts[PATHS["d"]]})
    writer.publish()
    writer.before = snapshot_user_state(writer.repo)
    writer.merge("a")
    writer.block("d")
    anew = writer.texts[PATHS["d"]].replace("\n  - a\n  - 'r'", "\n- a\n- r\n- resolve-d-1")
    kept = writer.texts[PATHS["d"]].replace("\n  - 'r'", "\n  - 'r'\n  - resolve-d-1")
    for text, count in ((kept, 0), (anew, 1)):
        writer.head = run_git(writer.repo, "rev-parse", f"{writer.head}^1")
        writer.block("d", files={PATHS["d"]: text})
        run_git(writer.repo, "reset", "-q", "--hard", writer.head)
        faults = check(writer.repo, before=writer.before, meant=Meant(STATUSES))
        assert len([fault for fault in faults if "written anew" in fault]) == count, faults


def test_a_blocked_node_without_its_commit_and_its_resolve_task_is_said(writer: HistoryWriter) -> None:
    writer.merge("a")
    text = writer.texts[PATHS["d"]].replace("status: pending", "status: blocked")
    quiet = writer.advance([writer.head], "Give up on d", {PATHS["d"]: text}, {"Note": "by hand"})
    write_rest(writer, "a", "d")
    statuses = {one: status for one, status in STATUSES.items() if one != "resolve-d-1"}
    faults = writer.read_faults(foreign=[quiet], statuses=statuses)
    assert_says(faults, "without a commit blocked(d)")
    assert_says(faults, "depends on no resolve task")
    assert_says(faults, "without notes")


def test_a_status_that_was_not_meant_is_said(writer: HistoryWriter) -> None:
    write_rest(writer)
    assert_says(writer.read_faults(statuses={**STATUSES, "e": "completed"}), "e is pending, not completed")


def test_the_command_says_the_same_and_ends_with_one(writer: HistoryWriter, tmp_path: Path) -> None:
    write_rest(writer)
    writer.publish()
    (tmp_path / "before.json").write_text(json.dumps(asdict(writer.before)))
    program = [sys.executable, str(Path(__file__).parent / "checker.py")]
    for statuses, status, said in ((STATUSES, 0, "Every promise"), ({**STATUSES, "e": "completed"}, 1, "e is pending")):
        (tmp_path / "meant.json").write_text(json.dumps({"statuses": statuses, "verify": VERIFY}))
        command = [*program, "check", str(writer.repo), str(tmp_path / "before.json"), str(tmp_path / "meant.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stdout) == (status, True), done
