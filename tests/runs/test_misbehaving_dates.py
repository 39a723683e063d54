"""Commits whose dates no datetime can represent, or git cannot read in another format; git itself makes them."""

from datetime import UTC, datetime

import pytest
from run_harness import RunHarness

from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.git.kept.snapshots import list_kept
from tasks_lib.project.loading import load_project

DATES = [
    pytest.param("@253402300800 +0000", id="year 10000"),
    pytest.param("@99999999999999 -0700", id="year 3170843"),
    pytest.param("@1700000000 +9999", id="zone of four days"),
]


@pytest.mark.parametrize("date", DATES)
async def test_work_of_a_strange_date_lands_and_what_was_dropped_of_it_is_kept(harness: RunHarness, date: str) -> None:
    dated = f"export GIT_AUTHOR_DATE='{date}' GIT_COMMITTER_DATE='{date}'"
    dropped = "for n in 1 2; do echo $n > $n.txt; commit $n; git reset -q --hard HEAD~1; done"
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, f"{dated}; {dropped}; work")

    worked = await harness.work()

    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert [line for line in worked.lines if "clean up" in line] == []
    project = load_project(harness.top, {})
    assert {one.label for one in list_kept(project.repository)} == {"a", "b"}
    assert audit(project, 100).violations == ()


@pytest.mark.parametrize("date", DATES)
async def test_kept_state_of_a_strange_date_is_listed_without_a_reflog(harness: RunHarness, date: str) -> None:
    harness.make({"a": {}})
    environment = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    commit = harness.git.run("commit-tree", "HEAD^{tree}", "-m", "x", environment=environment).text
    harness.git.run("update-ref", "refs/coordinator/kept/a/1", commit)
    [kept] = list_kept(load_project(harness.top, {}).repository)
    assert f"{kept.date.astimezone():%Y}" == ("2023" if "1700000000" in date else "9999")


@pytest.mark.parametrize("date", DATES)
async def test_run_on_a_target_of_a_strange_date_lands(harness: RunHarness, date: str) -> None:
    harness.make({"a": {}}, "work")
    environment = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    harness.git.run("commit", "-q", "--amend", "--no-edit", environment=environment)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert audit(load_project(harness.top, {}), 100).violations == ()


async def test_kept_state_without_a_date_is_never_old_enough_to_be_deleted(harness: RunHarness) -> None:
    harness.make({"a": {}})
    tree = harness.git.text("rev-parse", "HEAD^{tree}")
    harness.git.run("update-ref", "refs/coordinator/kept/a/1", tree)
    [kept] = list_kept(load_project(harness.top, {}).repository)
    assert kept.date > datetime.now(UTC)
