"""Whole runs in a repository with tags, branches and files named like HEAD, the target, branches and commits."""

from typing import Any

import pytest
from ambiguous_names import FILES, create_ambiguous_names, list_refs
from checker import Meant, check, snapshot_user_state
from run_harness import RunHarness, Tasks

from tasks_lib.cleanup.repository_audit import audit, verify_again
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

CHAIN: Tasks = {"a": {}, "b": {"depends_on": ["a"]}}
LANDED = ["Merge feat/b: Do b", "Merge feat/a: Do a", "Name files like refs", "Begin"]
NAME_ALL = (
    "old=$(git show-ref --verify --hash refs/tags/HEAD); id=$(git show-ref --verify --hash HEAD);"
    "for place in tags heads; do git update-ref refs/$place/$id $old; done"
)
"""Names a tag and a branch after the id of the checked-out commit."""
WORK = 'echo $id > $id.txt; git add -A; git commit -q -m "feat($id): write"; echo Wrote.'


def crowded(
    harness: RunHarness, tasks: Tasks, agent: str = WORK, verify: str = NAME_ALL, **settings: Any
) -> dict[str, str]:
    """Make a repository with all such names at its first commit; return every ref."""
    harness.make(tasks, agent, verify=[verify], **settings)
    old = harness.at()
    begun = harness.commit("Name files like refs", FILES)
    return create_ambiguous_names(harness.git, old, [begun])


def subjects(harness: RunHarness, ref: str = "refs/heads/main") -> list[str]:
    return harness.log("%s", ref, "--")


def others(harness: RunHarness, before: dict[str, str]) -> dict[str, str]:
    """Refs that differ from `before`, except those that `verify` names after commits."""
    now = list_refs(harness.git)
    changed = {ref: now.get(ref, "") for ref in now.keys() | before.keys() if now.get(ref) != before.get(ref)}
    return {ref: oid for ref, oid in changed.items() if len(ref.rpartition("/")[2]) != 40}


async def test_tag_called_head_keeps_nothing_from_being_published(harness: RunHarness) -> None:
    harness.make(CHAIN)
    harness.git.run("tag", "HEAD")
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert (worked.pending, worked.code) == ("", ExitCode.COMPLETED)
    assert subjects(harness) == ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
    assert harness.leftovers() == ["refs/tags/HEAD"]


@pytest.mark.parametrize("is_packed", [False, True])
async def test_graph_is_worked_among_all_names_at_once(harness: RunHarness, is_packed: bool) -> None:
    agent = f"[ $role = code-reviewer ] && {{ echo 'Verdict: approved'; exit 0; }}\n{WORK}"
    before = crowded(
        harness, {**CHAIN, "r": {"level": "review", "depends_on": ["b"]}}, agent, review={"when": "always"}
    )
    if is_packed:
        harness.git.run("pack-refs", "--all")
    snapshot = snapshot_user_state(harness.top)
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged", "r": "Checked"}
    assert (worked.pending, worked.code) == ("", ExitCode.COMPLETED)
    assert subjects(harness) == ["Check r: Do r", *LANDED]
    assert harness.trailer("Reviewed", "refs/heads/main^^1") == "approved"
    assert list(others(harness, before)) == ["refs/heads/main"]
    assert harness.git.text("status", "--porcelain") == ""
    meant = Meant({"a": "completed", "b": "completed", "r": "completed"}, verify=["true"])
    assert check(harness.top, before=snapshot, meant=meant) == []
    assert not any("ambiguous" in line for line in (*worked.lines, *worked.view.messages))
    project = load_project(harness.top, {})
    found = audit(project, 100)
    assert (found.violations, len(found.landed)) == ((), 2)
    assert await verify_again(project, found.landed, 2) == ([], 2)


async def test_conflict_is_given_back_and_resolved_among_all_names(harness: RunHarness) -> None:
    resolve = "git merge -q $COORDINATOR_TARGET || :; printf 'a\\nb\\n' > same.txt; git add -A; git commit -qm Resolve"
    agent = f"if [ $turn = 1 ]; then echo $id > same.txt; git add -A; git commit -qm Work; else {resolve}; fi"
    # No ref may have the name of the commit that the agent is asked to merge, or the agent's own git does not move HEAD.
    before = crowded(harness, {"a": {}, "b": {}}, agent, verify="true")
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.show("same.txt", "refs/heads/main") == "a\nb\n"
    assert list(others(harness, before)) == ["refs/heads/main"]


async def test_safe_exit_and_kept_states_are_as_anywhere_among_all_names(harness: RunHarness) -> None:
    agent = "git commit -q --allow-empty -m 'blocked(a): I need a key'; echo half > half.txt"
    crowded(harness, CHAIN, agent)
    worked = await harness.work()
    assert worked.names["a"] == "Blocked"
    assert "I need a key" in worked.view.nodes["a"].reason
    assert subjects(harness)[0].startswith("blocked(a): I need a key")
    assert subjects(harness)[1:] == ["Name files like refs", "Begin"]
    harness.set_status("resolve-a-1", "completed")
    harness.write_agent(WORK)
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.show("half.txt", "refs/heads/main") == "half\n"


async def test_run_that_was_stopped_goes_on_on_its_branch_among_all_names(harness: RunHarness) -> None:
    """The branch no longer has a worktree: it is opened by its name, which a tag has too."""
    agent = f"{WORK}; exit 3"
    crowded(harness, {"a": {}}, agent, retry={"attempts": 1})
    assert (await harness.work()).names == {"a": "Blocked"}
    branch = list_refs(harness.git)["refs/heads/feat/a"]
    harness.git.run("worktree", "remove", "--force", str(harness.top / ".worktrees" / "feat" / "a"))
    harness.set_status("resolve-a-1", "completed")
    harness.write_agent("[ -f $id.txt ] && git commit -q --allow-empty -m 'Look again'")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    merge = harness.git.text("rev-list", "--parents", "-n1", "refs/heads/main", "--").split()
    assert harness.git.succeeds("merge-base", "--is-ancestor", branch, merge[2])


async def test_branch_left_by_a_landed_node_is_put_away_and_its_namesakes_stay(harness: RunHarness) -> None:
    before = crowded(harness, {"a": {}})
    await harness.work()
    before |= list_refs(harness.git)
    tip = list_refs(harness.git)["refs/heads/main"]
    harness.git.run("update-ref", "refs/heads/feat/a", f"{tip}^2")

    async def nothing(_: OpenRun) -> None: ...

    await harness.work(during=nothing)
    assert others(harness, before) == {}


@pytest.mark.parametrize("prefix", ["heads/", "tags/", "remotes/origin/", "refs-", "HEAD/"])
@pytest.mark.parametrize("target", ["main"])
async def test_ids_and_prefixes_that_look_like_refs_are_names_like_others(
    harness: RunHarness, prefix: str, target: str
) -> None:
    ids = ["HEAD", target, "origin", "refs", "heads", "stash", "kept", "queue/main", "deadbeef", "cafe" * 10]
    harness.make({one: {} for one in ids}, branch_prefix=prefix)
    worked = await harness.work()
    assert set(worked.names.values()) == {"Merged"}
    assert harness.leftovers() == []


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("HEAD", "git reads as the current checkout"),
        ("refs/heads/main", "git reads as a full ref"),
        ("cafe" * 10, "git reads as an object id"),
        ("v1", "not a branch of this repository but a tag"),
        ("hub/main", "not a branch of this repository but a branch of a remote"),
        ("main^", "git does not allow in a branch name"),
        ("gone", "not a branch of this repository; set it to one"),
        ("feat", "git cannot create next to target feat"),
    ],
)
async def test_target_that_is_not_a_branch_is_refused_with_what_it_is(
    harness: RunHarness, target: str, said: str
) -> None:
    harness.make({"a": {}}, target=target)
    base = harness.at()
    for ref in (
        "refs/tags/v1",
        "refs/remotes/hub/main",
        f"refs/heads/{'cafe' * 10}",
        "refs/heads/HEAD",
        "refs/heads/feat",
    ):
        harness.git.run("update-ref", ref, base)
    with pytest.raises(InputError, match=said.replace("^", "\\^")):
        load_project(harness.top, {})


@pytest.mark.parametrize("name", ["HEAD", "refs/heads/main", "cafe" * 10])
async def test_checkout_on_a_branch_that_cannot_be_meant_is_refused(harness: RunHarness, name: str) -> None:
    harness.make({"a": {}})
    harness.git.run("update-ref", f"refs/heads/{name}", harness.at())
    harness.git.run("symbolic-ref", "HEAD", f"refs/heads/{name}")
    with pytest.raises(InputError, match=r"the target is .* git reads as"):
        load_project(harness.top, {})


@pytest.mark.parametrize(
    "target", ["origin/main", "feature/x", "deadbeef", "FETCH_HEAD", "heads/main", "feat/a", "stash"]
)
async def test_target_of_an_odd_name_is_landed_on(harness: RunHarness, target: str) -> None:
    harness.make(CHAIN, WORK, verify=["true"])
    harness.git.run("checkout", "--quiet", "-b", target)
    for ref in (f"refs/tags/{target}", f"refs/heads/refs/heads/{target}"):
        harness.git.run("update-ref", ref, harness.at("refs/heads/main"))
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.pending == ""
    assert subjects(harness, f"refs/heads/{target}")[-1] == "Begin"
    assert len(subjects(harness, f"refs/heads/{target}")) == 3
    assert subjects(harness) == ["Begin"]


async def test_branch_in_the_way_of_a_node_is_named(harness: RunHarness) -> None:
    harness.make({"a": {}})
    harness.git.run("update-ref", "refs/heads/feat/a/deep", harness.at())
    worked = await harness.work()
    assert worked.names == {"a": "Failed"}
    assert "refs/heads/feat/a/deep" in worked.view.nodes["a"].reason


async def test_alias_of_the_target_as_a_branch_of_a_node_is_never_committed_on(harness: RunHarness) -> None:
    harness.make({"a": {}})
    harness.git.run("symbolic-ref", "refs/heads/feat/a", "refs/heads/main")
    worked = await harness.work()
    assert "Merged" not in worked.names.values()
    assert "git symbolic-ref --delete refs/heads/feat/a" in worked.view.nodes["a"].reason
    assert subjects(harness) == ["Begin"]


async def test_target_that_is_an_alias_of_no_branch_is_refused(harness: RunHarness) -> None:
    harness.make({"a": {}})
    harness.git.run("update-ref", "refs/remotes/origin/main", harness.at())
    harness.git.run("symbolic-ref", "refs/heads/main", "refs/remotes/origin/main")
    with pytest.raises(InputError, match="symbolic ref to refs/remotes/origin/main, which is not a branch"):
        load_project(harness.top, {})


async def test_namespace_in_the_environment_hides_no_ref(harness: RunHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.make({"a": {}})
    monkeypatch.setenv("GIT_NAMESPACE", "elsewhere")
    assert (await harness.work()).names == {"a": "Merged"}
    assert subjects(harness)[0] == "Merge feat/a: Do a"
