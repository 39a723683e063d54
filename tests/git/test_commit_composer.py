"""Candidates: what a merge, a check and a blocker commit change, and what they leave alone."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from merge_fixtures import MergeFixture, task_text

from tasks_lib.errors import InputError
from tasks_lib.git.commits.commit_messages import read_trailers
from tasks_lib.git.compose.commit_composer import Candidate, Conflict, NewTask
from tasks_lib.model import LEVELS_THAT_ADD_FILES, Status


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[MergeFixture]:
    files: dict[str, str | bytes | None] = {
        "src.txt": "".join(f"{n}\n" for n in range(30)),
        "tasks/api.md": task_text("api"),
        "tasks/db.md": task_text("db", notes="Mind the index."),
        "tasks/plan.md": task_text("plan", level="planning"),
        "tasks/sub/README.md": "About these tasks\n",
    }
    found = MergeFixture(tmp_path / "repo", files)
    yield found
    found.close()


def merge(shop: MergeFixture, task_id: str, commit: str, **values: object) -> Candidate:
    found = shop.composer.compose_merge(shop.landing(task_id, commit, **values), shop.tip())
    assert isinstance(found, Candidate), found
    return found


def message_of(shop: MergeFixture, commit: str) -> str:
    return shop.sh("log", "-1", "--format=%B", commit)


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in zip(before.split("\n"), after.split("\n"), strict=False) if a != b]


def test_merge_has_both_parents_and_completes_the_task(shop: MergeFixture) -> None:
    head, commit = shop.tip(), shop.branch("feat/api", {"new.txt": "new\n"})
    found = merge(shop, "api", commit)
    assert shop.sh("log", "-1", "--format=%P", found.commit).split() == [head, commit]
    assert found.head == head
    assert found.tree == shop.sh("rev-parse", f"{found.commit}^{{tree}}")
    assert shop.task("api", found.commit).is_completed
    assert shop.show(found.commit, "new.txt") == "new\n"
    assert shop.tip() == head
    shop.sh("fsck", "--strict", "--no-dangling")


def test_merge_changes_nothing_in_the_task_file_but_the_status_line(shop: MergeFixture) -> None:
    text = task_text("api", end="\r\n")
    shop.commit({"tasks/api.md": text})
    found = merge(shop, "api", shop.branch("feat/api", {"new.txt": "new\n"}))
    after = shop.show(found.commit, "tasks/api.md")
    assert after is not None
    assert changed_lines(text, after) == [("status: pending\r", "status: completed\r")]


def test_message_has_subject_summary_and_trailers_in_order(shop: MergeFixture) -> None:
    commit = shop.branch("feat/api", {"new.txt": "new\n"})
    report = "Did it.\nTask: forged\n\nMore " + "x" * 3000
    found = merge(shop, "api", commit, summary=report, reviewed="approved\nby Ann", attempt=2)
    lines = message_of(shop, found.commit).split("\n")
    assert lines[:3] == ["Merge feat/api: Do api", "", "Did it."]
    assert lines[-7:] == [
        "",
        "Task: api",
        "Attempt: 2",
        "Run: run-1",
        "Session: ses-1",
        "Verified: d1gest",
        "Reviewed: approved by Ann",
    ]
    assert len("\n".join(lines)) < 2300
    assert read_trailers(message_of(shop, found.commit))["Task"] == "api"
    assert shop.sh("log", "-1", "--format=%(trailers:key=Task,valueonly)", found.commit).strip() == "api"


def test_name_of_several_lines_is_folded_and_an_empty_review_says_nothing(shop: MergeFixture) -> None:
    text = task_text("api").replace("name: Do api", "name: |\n  Do\n  api")
    shop.commit({"tasks/api.md": text})
    said = message_of(shop, merge(shop, "api", shop.branch("feat/api", {"n": "n"})).commit)
    assert said.startswith("Merge feat/api: Do api\n")
    assert "Reviewed" not in said


def test_summary_of_the_branch_wins_over_the_report(shop: MergeFixture) -> None:
    text = task_text("api", status="completed").replace("> To be filled on completion", "I did *that*.")
    found = merge(shop, "api", shop.branch("feat/api", {"n": "n", "tasks/api.md": text}), summary="Report.")
    after = shop.show(found.commit, "tasks/api.md")
    assert after is not None
    assert "I did *that*." in after
    assert "Report." not in after
    assert "I did *that*." in message_of(shop, found.commit)


def test_report_fills_a_summary_that_nobody_wrote(shop: MergeFixture) -> None:
    found = merge(shop, "api", shop.branch("feat/api", {"n": "n"}), summary="Report.\n# Not a heading\0")
    after = shop.show(found.commit, "tasks/api.md")
    assert after is not None
    assert after.endswith("## Summary\n\nReport.\n### Not a heading\n")


def test_agents_edits_of_its_front_matter_and_other_sections_are_dropped(shop: MergeFixture) -> None:
    text = (
        task_text("api", notes="Learnt a thing.").replace("depends_on: []", "depends_on: [db]").replace("Do it.", "No.")
    )
    found = merge(shop, "api", shop.branch("feat/api", {"n": "n", "tasks/api.md": text}))
    after = shop.show(found.commit, "tasks/api.md")
    assert after == task_text("api", notes="Learnt a thing.", status="completed")


def test_notes_that_changed_on_both_sides_are_both_kept(shop: MergeFixture) -> None:
    commit = shop.branch("feat/db", {"n": "n", "tasks/db.md": task_text("db", notes="From the branch.")})
    shop.commit({"tasks/db.md": task_text("db", notes="From the head.")})
    after = shop.show(merge(shop, "db", commit).commit, "tasks/db.md")
    assert after is not None
    assert "From the head.\n\nFrom the branch." in after


def test_notes_of_the_head_stand_where_the_branch_left_them_alone(shop: MergeFixture) -> None:
    text = task_text("db", notes="Mind the index.").replace("> To be filled on completion", "Done.")
    commit = shop.branch("feat/db", {"n": "n", "tasks/db.md": text})
    shop.commit({"tasks/db.md": task_text("db", notes="Mind the index.\n\nBlocked: no key")})
    after = shop.show(merge(shop, "db", commit).commit, "tasks/db.md")
    assert after is not None
    assert "Blocked: no key" in after
    assert "Done." in after


def test_conflicts_in_task_files_alone_are_none(shop: MergeFixture) -> None:
    commit = shop.branch(
        "feat/api",
        {"n": "n", "tasks/api.md": task_text("api", status="failed"), "tasks/db.md": task_text("db", status="failed")},
    )
    head = shop.commit({"tasks/api.md": task_text("api", status="blocked"), "tasks/db.md": None})
    found = merge(shop, "api", commit)
    assert shop.files(found.commit) == shop.files(head) | {"n"}
    assert shop.task("api", found.commit).status is Status.COMPLETED


def test_deleted_and_renamed_task_files_come_back(shop: MergeFixture) -> None:
    moved = {"tasks/db.md": None, "tasks/moved/db.md": task_text("db", notes="Mind the index."), "tasks/api.md": None}
    for task_id in ("api", "plan"):
        found = merge(shop, task_id, shop.branch(f"feat/{task_id}", {**moved, "n": "n"}))
        assert shop.files(found.commit) == shop.files(shop.tip()) | {"n"}
        assert shop.show(found.commit, "tasks/db.md") == shop.show(shop.tip(), "tasks/db.md")


@pytest.mark.parametrize("level", ["implementation", "review", "research", "", *sorted(LEVELS_THAT_ADD_FILES)])
def test_added_task_files_are_kept_for_levels_that_plan_and_dropped_for_others(shop: MergeFixture, level: str) -> None:
    shop.commit({"tasks/it.md": task_text("it", level=level or "null")})
    added = {"tasks/more/x.md": task_text("x"), "tasks/y.md": task_text("y"), "tasks/README.md": "No task\n"}
    found = merge(shop, "it", shop.branch("feat/it", {"n": "n", **added}))
    expected = {"n", "tasks/README.md"} | (set(added) if level in LEVELS_THAT_ADD_FILES else set[str]())
    assert shop.files(found.commit) - shop.files(shop.tip()) == expected


def test_new_task_files_that_would_break_the_graph_go_back(shop: MergeFixture) -> None:
    broken = {
        "tasks/x.md": "---\nid: x\nstatus: dnoe\n---\n",
        "tasks/y.md": task_text("y"),
        "tasks/z.md": task_text("y"),
    }
    commit = shop.branch("feat/plan", {"n": "n", **broken})
    found = shop.composer.compose_merge(shop.landing("plan", commit), shop.tip())
    assert isinstance(found, Conflict)
    assert found.paths == ()
    wrong, taken = (one for one in found.clashes if "tasks/x.md:3" in one or one.startswith("tasks/z.md"))
    assert "dnoe" in wrong
    assert "give each its own id" in taken


def test_a_task_file_that_broke_on_the_head_says_where(shop: MergeFixture) -> None:
    landing = shop.landing("api", shop.branch("feat/api", {"n": "n"}))
    shop.commit({"tasks/api.md": task_text("api", status="dnoe")})
    with pytest.raises(InputError, match=r"tasks/api.md:4"):
        shop.composer.compose_merge(landing, shop.tip())


def test_a_planner_does_not_bring_back_what_the_head_deleted(shop: MergeFixture) -> None:
    commit = shop.branch("feat/plan", {"n": "n", "tasks/api.md": task_text("api", notes="edited")})
    shop.commit({"tasks/api.md": None})
    assert shop.show(merge(shop, "plan", commit).commit, "tasks/api.md") is None


def test_markdown_without_front_matter_merges_as_any_file(shop: MergeFixture) -> None:
    commit = shop.branch("feat/api", {"tasks/sub/README.md": "New words\n"})
    assert shop.show(merge(shop, "api", commit).commit, "tasks/sub/README.md") == "New words\n"
    shop.commit({"tasks/sub/README.md": "Other words\n"})
    found = shop.composer.compose_merge(shop.landing("api", commit), shop.tip())
    assert isinstance(found, Conflict)
    assert found.paths == ("tasks/sub/README.md",)


def test_conflict_names_paths_messages_and_the_commits_of_both_sides(shop: MergeFixture) -> None:
    source = shop.show(shop.tip(), "src.txt") or ""
    commit = shop.branch(
        "feat/api", {"src.txt": source.replace("5\n", "five\n"), "tasks/api.md": task_text("api", status="failed")}
    )
    shop.commit(
        {"src.txt": source.replace("5\n", "FIVE\n"), "tasks/api.md": task_text("api", status="blocked")}, "Shout"
    )
    shop.commit({"unrelated": "x"}, "Something else")
    found = shop.composer.compose_merge(shop.landing("api", commit), shop.tip())
    assert isinstance(found, Conflict)
    assert found.paths == ("src.txt",)
    assert found.messages == ("CONFLICT (content): Merge conflict in src.txt",)
    assert [line.partition(" ")[2] for line in found.head_commits] == ["Shout"]
    assert [line.partition(" ")[2] for line in found.branch_commits] == ["work on feat/api"]


def test_a_folder_in_place_of_a_task_file_is_a_conflict(shop: MergeFixture) -> None:
    shop.sh("checkout", "-qb", "feat/api")
    (shop.top / "tasks/db.md").unlink()
    commit = shop.commit({"tasks/db.md/code.txt": "x"})
    shop.sh("checkout", "-q", "main")
    found = shop.composer.compose_merge(shop.landing("api", commit), shop.tip())
    assert isinstance(found, Conflict)
    assert found.paths == ()
    assert found.clashes == ("tasks/db.md is a task file on the head and a folder on the branch",)


def test_unrelated_history_is_a_conflict_that_says_so(shop: MergeFixture) -> None:
    commit = shop.composer.commit(shop.sh("rev-parse", "HEAD^{tree}"), ["HEAD"], "x").tree
    orphan = shop.sh("commit-tree", commit, "-m", "orphan")
    found = shop.composer.compose_merge(shop.landing("api", orphan), shop.tip())
    assert isinstance(found, Conflict)
    assert "in common" in found.messages[0]


def test_a_branch_that_the_head_holds_becomes_a_plain_commit(shop: MergeFixture) -> None:
    commit = shop.branch("feat/api", {"n": "n"})
    shop.sh("merge", "-q", "--no-ff", "-m", "by hand", "feat/api")
    for branch in (commit, shop.tip()):
        found = merge(shop, "api", branch)
        assert shop.sh("log", "-1", "--format=%P", found.commit) == shop.tip()
        assert shop.task("api", found.commit).is_completed


def test_a_task_file_that_moved_on_the_head_is_found_by_its_id(shop: MergeFixture) -> None:
    commit = shop.branch("feat/api", {"n": "n"})
    landing = shop.landing("api", commit)
    shop.commit({"tasks/api.md": None, "tasks/done/api.md": task_text("api")})
    found = shop.composer.compose_merge(landing, shop.tip())
    assert isinstance(found, Candidate)
    assert shop.task("api", found.commit).path == "tasks/done/api.md"
    assert shop.task("api", found.commit).is_completed


def test_a_task_that_is_gone_from_the_head_is_an_input_error(shop: MergeFixture) -> None:
    landing = shop.landing("api", shop.branch("feat/api", {"n": "n"}))
    shop.commit({"tasks/api.md": task_text("another")})
    with pytest.raises(InputError, match=r'tasks/api.md: .*"api".*put the file back'):
        shop.composer.compose_merge(landing, shop.tip())


def test_bytes_that_are_no_utf8_do_not_reach_the_head(shop: MergeFixture) -> None:
    text = task_text("api", notes="caf\xe9").encode("latin-1")
    found = merge(shop, "api", shop.branch("feat/api", {"n": "n", "tasks/api.md": text}), summary="half \ud83d")
    assert shop.task("api", found.commit).is_completed


def test_check_changes_its_task_file_alone(shop: MergeFixture) -> None:
    found = shop.composer.compose_checked(shop.landing("db", shop.tip(), summary="All well."), shop.tip())
    assert [c.path for c in shop.objects.diff(shop.tip(), found.commit)] == ["tasks/db.md"]
    assert shop.sh("log", "-1", "--format=%P", found.commit) == shop.tip()
    said = message_of(shop, found.commit)
    assert said.startswith("Check db: Do db\n\nAll well.\n\nTask: db\n")
    assert shop.task("db", found.commit).is_completed


def block(shop: MergeFixture, resolve: NewTask | None, reason: str = "No\nkey " + "y" * 90) -> Candidate:
    return shop.composer.compose_blocker(
        shop.task("db"),
        shop.tip(),
        reason=reason,
        notes="Tried twice.",
        resolve=resolve,
        attempt=3,
        run="r",
        session="s",
    )


def test_blocker_records_status_notes_and_the_task_that_resolves_it(shop: MergeFixture) -> None:
    new = NewTask("resolve-db-1", "tasks/resolve-db-1.md", task_text("resolve-db-1"))
    found = block(shop, new)
    task = shop.task("db", found.commit)
    assert (task.status, task.depends_on) == (Status.BLOCKED, ("resolve-db-1",))
    assert shop.show(found.commit, new.path) == new.text
    text = shop.show(found.commit, "tasks/db.md") or ""
    assert "## Notes\n\nMind the index.\n\nTried twice.\n\nBlocked: No key yyy" in text
    lines = message_of(shop, found.commit).split("\n")
    assert lines[0].startswith("blocked(db): No key yyy")
    assert len(lines[0]) == len("blocked(db): ") + 72
    assert lines[2:] == ["Task: db", "Attempt: 3", "Run: r", "Session: s"]
    assert {c.path for c in shop.objects.diff(shop.tip(), found.commit)} == {"tasks/db.md", new.path}


def test_blocker_of_a_resolve_task_makes_no_further_one(shop: MergeFixture) -> None:
    found = block(shop, None)
    assert [c.path for c in shop.objects.diff(shop.tip(), found.commit)] == ["tasks/db.md"]
    assert shop.task("db", found.commit).depends_on == ()


def test_blocker_said_again_does_not_say_it_twice(shop: MergeFixture) -> None:
    shop.sh("update-ref", "refs/heads/main", block(shop, None).commit)
    text = shop.show(block(shop, None).commit, "tasks/db.md") or ""
    assert text.count("Tried twice.") == text.count("Blocked: ") == 1


@pytest.mark.parametrize("path", ["tasks/api.md", "src/x.md", "tasks/x.txt"])
def test_a_resolve_file_in_a_wrong_place_is_refused(shop: MergeFixture, path: str) -> None:
    with pytest.raises(InputError, match=r"in the way|cannot be added"):
        block(shop, NewTask("resolve-db-1", path, task_text("resolve-db-1")))


def test_several_threads_compose_what_one_would(shop: MergeFixture) -> None:
    commits = [shop.branch(f"feat/{n}", {f"new/{n}.txt": "x\n"}) for n in range(8)]
    head = shop.tip()

    def compose(commit: str) -> Candidate | Conflict:
        return shop.composer.compose_merge(shop.landing("api", commit), head)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(compose, commits))
    for number, candidate in enumerate(found):
        assert isinstance(candidate, Candidate)
        assert shop.files(candidate.commit) == shop.files(head) | {f"new/{number}.txt"}


_EDITS = st.dictionaries(
    st.sampled_from(["tasks/api.md", "tasks/db.md", "tasks/plan.md", "tasks/new.md", "tasks/sub/new.md"]),
    st.sampled_from(["completed", "failed", "blocked", "rewritten", "no front matter", "removed"]),
    max_size=4,
)


def edit(shop: MergeFixture, commit: str, edits: Mapping[str, str]) -> str:
    """Make a commit on top of `commit` without a working tree; only existing paths can be removed."""
    changes: dict[str, str | None] = {}
    for path, how in edits.items():
        text = task_text(path.removeprefix("tasks/").removesuffix(".md"), status=how if how[0] in "cfb" else "pending")
        text = {"rewritten": text.replace("Do it.", "Something else."), "no front matter": "Words\n"}.get(how, text)
        changes[path] = None if how == "removed" else shop.objects.write_blob(text.encode())
    return shop.composer.commit(shop.objects.edit_tree(commit, changes), [commit], "edits").commit


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(on_branch=_EDITS, on_head=_EDITS)
def test_whatever_a_branch_does_the_heads_task_files_stand(
    shop: MergeFixture, on_branch: dict[str, str], on_head: dict[str, str]
) -> None:
    start = shop.tip()
    head = edit(shop, start, {path: how for path, how in on_head.items() if path != "tasks/api.md"})
    branch = edit(shop, start, on_branch)
    found = shop.composer.compose_merge(shop.landing("api", branch), head)
    assert isinstance(found, Candidate)
    before, after = (
        {path: entry for path, entry in shop.objects.walk(commit) if shop.reader.is_task_file(path, entry)}
        for commit in (head, found.commit)
    )
    assert before.keys() == after.keys()
    assert {path for path in before if before[path] != after[path]} == {"tasks/api.md"}
    assert shop.task("api", found.commit).is_completed
