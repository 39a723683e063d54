"""A node that was blocked before: text from an earlier turn or the coordinator itself must not block it again."""

import pytest
from run_harness import RunHarness, until
from test_run_blocking import NOTIFY

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import Blocked

REASON = "The key is missing."
FIRST = "[ $attempt = 1 ] && {{\n{deed}\nnotify blocking '" + REASON + "'; exit 0\n}}\n"
LEFT = {"an uncommitted file": "echo half > half.txt", "a commit": "echo half > half.txt; commit 'feat(a): half'"}
SUMMARY = "sed -i 's/^## Summary/## Summary\\nDid it./' $COORDINATOR_TASK_FILE"
BLOCKER = "$(git log -n1 --format=%H --grep='^blocked(a):' $COORDINATOR_TARGET)"
BRINGS = {
    "merge": "git merge -q --no-edit $COORDINATOR_TARGET",
    "merge that is always a commit": "git merge -q --no-ff --no-edit $COORDINATOR_TARGET",
    "merge into the target": (
        "git checkout -q --detach $COORDINATOR_TARGET; git merge -q --no-edit feat/a; git checkout -q -B feat/a"
    ),
    "pull": "git pull -q --no-edit --no-rebase ../../.. main",
    "pull with rebase": "git stash -q -u || :; git pull -q --rebase . main; git stash pop -q || :",
    "rebase": "git stash -q -u || :; git rebase -q $COORDINATOR_TARGET; git stash pop -q || :",
    "cherry-pick": f"git cherry-pick {BLOCKER} > /dev/null",
    "cherry-pick that says so": f"git cherry-pick -x {BLOCKER} > /dev/null",
    "reset": "git reset -q --keep $COORDINATOR_TARGET",
    "squash": "git merge -q --squash $COORDINATOR_TARGET; git commit -q -m 'Take in what landed'",
    "checkout of the file": "git checkout -q $COORDINATOR_TARGET -- tasks",
    "patch": f"git format-patch -q -1 --stdout {BLOCKER} | git am -q",
}


def answer(harness: RunHarness, task_id: str = "a") -> None:
    """Commit on main as the user would: the answer, and the resolve task as completed."""
    harness.commit("Bring the key", {"key.txt": "secret\n"})
    harness.set_status(f"resolve-{task_id}-1", "completed")


@pytest.mark.parametrize(
    ("way", "left"),
    [
        *((way, "a commit") for way in BRINGS),
        *((way, "an uncommitted file") for way in ("merge", "reset", "squash")),
    ],
)
async def test_block_that_comes_from_the_target_is_not_said_by_the_agent(
    harness: RunHarness, way: str, left: str
) -> None:
    first = FIRST.format(deed=LEFT[left])
    harness.make({"a": {}}, f"{NOTIFY}{first}{BRINGS[way]}\n{SUMMARY}\nwork")
    await harness.work()
    answer(harness)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}, worked.view.nodes["a"].reason
    assert harness.journal.turns() == ["a-1-1", "a-2-1"]
    assert [one for one in harness.leftovers() if "refs/coordinator/kept/" not in one] == []


SAYS = {
    "notice": f"notify blocking '{REASON}'",
    "commit": f"git commit -q --allow-empty -m 'blocked(a): {REASON}'",
    "amended commit": f"git commit -q --allow-empty -m Half; git commit -q --allow-empty --amend -m 'blocked(a): {REASON}'",
    "file": f"status blocked; sed -i 's/^## Notes/## Notes\\n{REASON}/' $COORDINATOR_TASK_FILE; commit 'wip: note it'",
    "uncommitted file": f"status blocked; sed -i 's/^## Notes/## Notes\\n{REASON}/' $COORDINATOR_TASK_FILE",
}


@pytest.mark.parametrize(
    ("first", "say"),
    [*((say, say) for say in SAYS), ("notice", "file"), ("commit", "file")],
)
async def test_block_that_is_said_again_blocks_again(harness: RunHarness, first: str, say: str) -> None:
    """Each attempt merges what landed and then blocks with the same words; the user sets it to pending in between."""
    again = f"git merge -q --no-edit -X ours $COORDINATOR_TARGET; {SAYS[say]}; exit 0"
    tidy = "git checkout -q -- tasks" if first == "uncommitted file" else ":"
    clock = 'export GIT_AUTHOR_DATE="@170000000$attempt +0000"\n'
    harness.make({"a": {}}, f"{NOTIFY}{clock}[ $attempt = 1 ] && {{ {SAYS[first]}; exit 0; }}\n{tidy}\n{again}")
    await harness.work()
    harness.set_status("resolve-a-1", "completed")
    if "file" in say:
        harness.set_status("a", "pending")
    worked = await harness.work()
    assert worked.outcomes == {"a": Blocked(REASON, "resolve-a-2")}
    assert harness.journal.turns() == ["a-1-1", "a-2-1"]


async def test_words_of_another_reason_are_the_ones_that_are_told(harness: RunHarness) -> None:
    note = 'status blocked; sed -i "s/^## Notes/## Notes\\nBlocked: $WORDS/" $COORDINATOR_TASK_FILE; commit note'
    append = (
        "printf 'Blocked: no network.\\n' > more; sed -i '/^Blocked: The key/r more' $COORDINATOR_TASK_FILE; rm more"
    )
    harness.make({"a": {}}, f"[ $attempt = 1 ] && {{ WORDS='{REASON}'; {note}; exit 0; }}\n{append}; commit note")
    await harness.work()
    answer(harness)
    worked = await harness.work()
    assert worked.outcomes == {"a": Blocked("no network.", "resolve-a-2")}


COPIES = {
    "rebase": "git rebase -q $COORDINATOR_TARGET",
    "rebase that rewords nothing": "GIT_SEQUENCE_EDITOR=: git rebase -q -i --force-rebase $COORDINATOR_TARGET",
    "amend": "echo more >> half.txt; git commit -q --amend --no-edit half.txt",
    "merge of a branch that is rebased": (
        "git switch -q -c other; git rebase -q $COORDINATOR_TARGET; git switch -q feat/a; git merge -q --no-edit other; "
        "git branch -q -D other"
    ),
}


@pytest.mark.parametrize("way", COPIES)
async def test_own_blocker_of_an_earlier_attempt_is_not_said_again_by_a_copy(harness: RunHarness, way: str) -> None:
    agent = f"""
[ $attempt = 1 ] && {{ echo half > half.txt; git add half.txt; git commit -qm 'blocked(a): {REASON}'; exit 0; }}
{COPIES[way]}
work
"""
    harness.make({"a": {}}, agent)
    await harness.work()
    answer(harness)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.has("half.txt")


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        ("It is done now.", "Merged"),  # With work committed besides.
        ("Still blocked: no network.", "Blocked"),
    ],
)
async def test_status_that_was_left_says_nothing_without_words_of_this_turn(
    harness: RunHarness, words: str, ends: str
) -> None:
    note = f"sed -i 's/^## Notes/## Notes\\n{words}/' $COORDINATOR_TASK_FILE"
    harness.make(
        {"a": {}}, f"{NOTIFY}{FIRST.format(deed=':')}grep -q 'status: blocked' $COORDINATOR_TASK_FILE\n{note}\nwork"
    )
    await harness.work()
    answer(harness)
    assert (await harness.work()).names == {"a": ends}


async def test_note_alone_below_a_status_that_was_left_blocks_instead_of_landing_half(harness: RunHarness) -> None:
    note = "sed -i 's/^## Notes/## Notes\\nThe key does not fit./' $COORDINATOR_TASK_FILE; commit note"
    harness.make(
        {"a": {}}, f"{NOTIFY}{FIRST.format(deed=LEFT['a commit'])}git merge -q --no-edit $COORDINATOR_TARGET; {note}"
    )
    await harness.work()
    answer(harness)
    assert (await harness.work()).outcomes == {"a": Blocked("The key does not fit.", "resolve-a-2")}


async def test_blocker_of_another_node_says_nothing_of_this_one(harness: RunHarness) -> None:
    harness.make({"a": {}, "b/a": {}}, "[ $id = a ] && git commit -q --allow-empty -m 'blocked(b/a): not me'\nwork")
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b/a": "Merged"}


async def test_notice_of_a_turn_that_was_killed_does_not_block_when_the_turn_is_taken_again(
    harness: RunHarness,
) -> None:
    """A turn's number is reused after a stop, so the notices file contains notices of both turns."""
    agent = f"[ ! -f seen.tmp ] && {{ : > seen.tmp; notify blocking '{REASON}'; tell said; await never; }}\nwork"
    harness.make({"a": {}}, NOTIFY + agent, signals=["said", "never"], files={".gitignore": "*.tmp\n"})

    async def stop(opened: OpenRun) -> None:
        await harness.signals["said"].wait()
        opened.run.stopping.request()

    assert (await harness.work(during=stop)).names == {"a": "Aborted"}
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}


async def test_reviewers_words_do_not_block_the_author(harness: RunHarness) -> None:
    agent = """
[ "$role" = code-reviewer ] && {
  git commit -q --allow-empty -m 'blocked(a): by the reviewer'; notify blocking 'by the reviewer' || :
  echo 'Verdict: approved'; exit 0
}
work
"""
    harness.make({"a": {}}, NOTIFY + agent, review={"when": "always"})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}


async def test_agent_that_only_takes_in_the_target_has_done_nothing(harness: RunHarness) -> None:
    """The user's commits on the target, fast-forwarded to, are not the agent's work and do not complete a node."""
    first = FIRST.format(deed=LEFT["an uncommitted file"])
    harness.make({"a": {}}, f"{NOTIFY}{first}rm -f half.txt; git merge -q $COORDINATOR_TARGET", retry={"attempts": 1})
    await harness.work()
    answer(harness)
    worked = await harness.work()
    assert worked.names == {"a": "Blocked"}
    assert "without a commit" in worked.view.nodes["a"].reason
    assert "status: completed" not in harness.show("tasks/a.md")


async def test_protected_file_that_a_person_committed_is_not_charged_to_who_takes_it_in(harness: RunHarness) -> None:
    first = FIRST.format(deed=LEFT["an uncommitted file"])
    harness.make({"a": {}}, f"{NOTIFY}{first}git merge -q $COORDINATOR_TARGET\nwork", protected_paths=["ci"])
    await harness.work()
    harness.commit("Bring the key", {"ci/key.txt": "secret\n"})
    harness.set_status("resolve-a-1", "completed")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.git.text("log", "-n1", "--format=%P", "main").count(" ") == 1


@pytest.mark.parametrize("how", ["--ff-only", "--no-ff"])
async def test_work_that_a_person_merges_by_hand_in_the_turn_is_still_the_agents(harness: RunHarness, how: str) -> None:
    agent = "work; tell done; await merged"
    harness.make({"a": {}}, agent, signals=["done", "merged"])

    async def merge(opened: OpenRun) -> None:
        await harness.signals["done"].wait()
        harness.git.run("merge", "--quiet", how, "--no-edit", "feat/a")
        await until(lambda: opened.run.git.head.last_seen() == harness.at())
        harness.signals["merged"].send()

    worked = await harness.work(during=merge)
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]
    assert "status: completed" in harness.show("tasks/a.md")


async def test_work_that_a_person_merges_by_hand_between_attempts_is_still_the_agents(harness: RunHarness) -> None:
    harness.make({"a": {}}, "[ $attempt = 1 ] && { work; exit 3; }\n:", retry={"attempts": 1})
    await harness.work()
    harness.git.run("merge", "--quiet", "--no-edit", "feat/a")
    harness.set_status("resolve-a-1", "completed")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-2-1"]


# Branches without commits.


@pytest.mark.parametrize("failing", ["blocks", "fails"])
async def test_branch_without_commits_is_moved_to_the_head_before_its_next_attempt(
    harness: RunHarness, failing: str
) -> None:
    deed = f"notify blocking '{REASON}'; exit 0" if failing == "blocks" else "tell begun; await answered; exit 1"
    agent = f"[ $attempt = 1 ] && {{ {deed}; }}\n[ -f key.txt ] || exit 3\nwork"
    harness.make({"a": {}}, NOTIFY + agent, signals=["begun", "answered"])

    async def answer_meanwhile(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        head = harness.commit("Bring the key", {"key.txt": "secret\n"})
        await until(lambda: opened.run.git.head.last_seen() == head)
        harness.signals["answered"].send()

    if failing == "blocks":
        await harness.work()
        answer(harness)
        worked = await harness.work()
    else:
        worked = await harness.work(during=answer_meanwhile)
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-2-1"]
    assert "git merge $COORDINATOR_TARGET" not in harness.journal.read("a-2-1")
    assert harness.leftovers() == []


async def test_moved_branch_is_set_up_again_and_what_git_ignores_stays(harness: RunHarness) -> None:
    agent = f"[ $attempt = 1 ] && {{ echo 1 > cache.tmp; notify blocking '{REASON}'; exit 0; }}\ncat cache.tmp setup.tmp > both.txt; work"
    harness.make(
        {"a": {}}, NOTIFY + agent, files={".gitignore": "*.tmp\n", "version": "1\n"}, setup=["cp version setup.tmp"]
    )
    await harness.work()
    harness.commit("Take version 2", {"version": "2\n"})
    harness.set_status("resolve-a-1", "completed")
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.show("both.txt") == "1\n2\n"


STAYS = {
    "an uncommitted file": "echo half > half.txt",
    "a changed file": "echo half >> README.md",
    "a staged file": "echo half > half.txt; git add half.txt",
    "a commit": "echo half > half.txt; commit 'feat(a): half'",
    "an ignored file in the way": "echo half > key.txt",
    "a bisect": "git bisect start > /dev/null",
}


@pytest.mark.parametrize("left", STAYS)
async def test_branch_that_holds_anything_stays_where_it_is(harness: RunHarness, left: str) -> None:
    look = "git rev-parse HEAD; git status --short; cat half.txt key.txt || :"
    agent = f"[ $attempt = 1 ] && {{ {STAYS[left]}; ({look}) > {{place}}/before; notify blocking '{REASON}'; exit 0; }}\n({look}) > {{place}}/after; exit 4"
    harness.make(
        {"a": {}},
        NOTIFY + agent.replace("{place}", str(harness.place)),
        retry={"attempts": 1},
        files={".gitignore": "key.txt\n"},
    )
    await harness.work()
    harness.commit("Track the key", {".gitignore": "\n"})
    answer(harness)
    worked = await harness.work()
    assert worked.names == {"a": "Blocked"}
    assert (harness.place / "after").read_text() == (harness.place / "before").read_text()
    assert "git merge $COORDINATOR_TARGET" in harness.journal.read("a-2-1")


async def test_branch_without_a_worktree_is_moved_too(harness: RunHarness) -> None:
    harness.make({"a": {}}, "[ -f key.txt ] || exit 3\nwork")
    harness.git.run("branch", "feat/a")
    harness.commit("Bring the key", {"key.txt": "secret\n"})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]


async def test_review_that_is_finished_is_not_done_again_because_its_branch_could_be_moved(harness: RunHarness) -> None:
    verify = f"test -e {harness.place}/green"
    harness.make({"a": {"level": "review"}}, "echo 'Verdict: approved'", verify=[verify])
    assert (await harness.work()).names == {"a": "Failed"}
    (harness.place / "green").touch()
    harness.commit("Make it green", {"other.txt": "x\n"})
    assert (await harness.work()).names == {"a": "Checked"}
    assert harness.journal.turns() == ["a-1-1"]


async def test_moving_a_branch_is_no_news_to_a_blocked_node(harness: RunHarness) -> None:
    harness.make({"a": {}}, NOTIFY + f"notify blocking '{REASON}'; exit 0")
    await harness.work()
    harness.commit("Something else", {"other.txt": "x\n"})
    worked = await harness.work()
    assert worked.outcomes == {}
    assert harness.journal.turns() == ["a-1-1"]


@pytest.mark.parametrize("attempt", ["²", "9" * 5_000, "first"])
async def test_number_of_attempts_that_is_no_number_counts_as_none(harness: RunHarness, attempt: str) -> None:
    harness.make({"a": {"depends_on": ["resolve-a-1"]}, "resolve-a-1": {"status": "completed"}}, "work")
    path = harness.top / "tasks/a.md"
    path.write_text(path.read_text().replace("status: pending", "status: blocked"))
    harness.git.run("commit", "-q", "-a", "-m", f"blocked(a): {REASON}\n\nTask: a\nAttempt: {attempt}")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]
