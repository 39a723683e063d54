"""Landing on a remote whose refs, or whose name, git could mistake for something else, or whose branch has another name."""

import pytest
from ambiguous_names import create_ambiguous_names, list_refs
from push.remote_harness import RemoteHarness, completed
from run_harness import Tasks

from tasks_lib.errors import InputError
from tasks_lib.git.publish.remote_branch import Remote
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git

PAIR: Tasks = {"a": {}, "b": {"depends_on": ["a"]}}
LANDED = ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
NAME_ALL = (
    "old=$(git rev-list --max-parents=0 HEAD -- 2>/dev/null); id=$(git show-ref --verify --hash HEAD);"
    "for place in tags heads; do git update-ref refs/$place/$id $old; done"
)
"""Verify lines that name a tag and a branch after the id of the commit being verified."""
THERE = ("refs/tags/HEAD", "refs/tags/main", "refs/heads/x/main", "refs/heads/HEAD", "refs/heads/heads/main")


async def test_what_was_verified_is_pushed_whatever_is_called_by_its_id(shared: RemoteHarness) -> None:
    """Git pushes a tag named like a commit id instead of the commit."""
    shared.make(PAIR, verify=[NAME_ALL])
    worked = await shared.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert (worked.pending, worked.code) == ("", 0)
    assert shared.hub_log() == LANDED
    assert shared.at() == shared.at_hub("refs/heads/main")
    assert shared.judge(completed("a", "b"), verify=["true"]) == []


async def test_work_lands_on_the_branch_among_all_names_here_and_there(shared: RemoteHarness) -> None:
    shared.make(
        PAIR, "work; git push -q origin $(git show-ref --verify --hash HEAD)^0:refs/heads/feat/$id", verify=["true"]
    )
    old = shared.git.text("rev-parse", "refs/heads/main")
    shared.commit("Begin again", {"x.txt": "x\n"})
    shared.git.run("push", "--quiet", "origin", "refs/heads/main")
    begun = shared.git.text("rev-parse", "refs/heads/main")
    here = create_ambiguous_names(shared.git, old, [begun])
    for ref in THERE:
        shared.hub.run("update-ref", ref, old)
    there = list_refs(shared.hub)
    worked = await shared.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert (worked.pending, worked.code) == ("", 0)
    tip = list_refs(shared.hub)["refs/heads/main"]
    assert list_refs(shared.hub) == there | {"refs/heads/main": tip}
    moved = {"refs/heads/main": tip, "refs/remotes/origin/main": tip}
    # Agents pushed their branches, which leaves remote-tracking refs.
    assert {ref: oid for ref, oid in list_refs(shared.git).items() if "origin/feat/" not in ref} == here | moved
    subjects = shared.hub.text("log", "--first-parent", "--format=%s", "refs/heads/main").splitlines()
    assert subjects == [*LANDED[:2], "Begin again", "Begin"]


async def test_remote_with_a_branch_called_like_the_ref_is_refused_before_work_begins(shared: RemoteHarness) -> None:
    """Git pushes to neither."""
    shared.make({"a": {}})
    shared.hub.run("update-ref", "refs/heads/refs/heads/main", "refs/heads/main")
    with pytest.raises(InputError, match="git push origin --delete refs/heads/refs/heads/main"):
        await shared.work()
    shared.git.run("push", "--quiet", "origin", "--delete", "refs/heads/refs/heads/main")
    assert (await shared.work()).names == {"a": "Merged"}


async def test_remote_with_a_tag_called_like_the_ref_is_said_to_refuse_and_not_to_be_away(
    shared: RemoteHarness,
) -> None:
    shared.make({"a": {}})
    shared.hub.run("update-ref", "refs/tags/refs/heads/main", "refs/heads/main")
    worked = await shared.work()
    assert worked.names == {"a": "Merged"}
    assert "itself named refs/heads/main" in worked.pending
    assert "does not answer" not in worked.pending
    shared.hub.run("update-ref", "-d", "refs/tags/refs/heads/main")
    assert (await shared.work()).pending == ""
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]


@pytest.mark.parametrize("name", ["main", "feat/a", "heads", "tasks", "a=b"])
async def test_remote_may_be_called_like_a_branch_or_a_folder(shared: RemoteHarness, name: str) -> None:
    shared.name = name
    shared.make({"a": {}})
    shared.git.run("config", f"remote.{name}.mirror", "true")
    worked = await shared.work()
    assert (worked.names, worked.pending) == ({"a": "Merged"}, "")
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]
    assert shared.hub_branches() == ["main"]


async def test_directory_that_is_called_like_a_remote_without_an_address_is_not_pushed_to(
    shared: RemoteHarness,
) -> None:
    shared.make({"a": {}})
    shared.git.run("config", "--unset", "remote.origin.url")
    Git(shared.place).run("clone", "--quiet", "--bare", str(shared.hub_path), str(shared.top / "origin"))
    before = list_refs(Git(shared.top / "origin"))
    with pytest.raises(InputError, match="has no URL"):
        await shared.work()
    assert list_refs(Git(shared.top / "origin")) == before


async def test_settings_of_a_person_for_pushing_change_nothing(shared: RemoteHarness) -> None:
    shared.make({"a": {}})
    shared.git.run("tag", "v1")
    shared.git.run("remote", "add", "other", str(shared.place / "nowhere"))
    for key, value in {
        "remote.pushDefault": "other",
        "push.default": "nothing",
        "push.followTags": "true",
        "push.autoSetupRemote": "true",
        "branch.main.pushRemote": "other",
        "branch.main.merge": "refs/heads/elsewhere",
        "remote.origin.push": "refs/heads/*:refs/heads/backup/*",
        "remote.origin.tagOpt": "--tags",
        "core.warnAmbiguousRefs": "true",
    }.items():
        shared.git.run("config", key, value)
    shared.git.run("config", "--add", "remote.origin.fetch", "+refs/heads/*:refs/heads/copies/*")
    worked = await shared.work()
    assert (worked.names, worked.pending) == ({"a": "Merged"}, "")
    assert list(list_refs(shared.hub)) == ["refs/heads/main"]
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]
    assert not [ref for ref in list_refs(shared.git) if "copies" in ref]


def test_push_and_delete_take_no_ref_that_only_ends_alike(shared: RemoteHarness) -> None:
    shared.make({"a": {}})
    base = shared.at()
    for ref in ("refs/heads/x/main", "refs/heads/x/feat/a", "refs/heads/feat/a", "refs/tags/feat/a"):
        shared.hub.run("update-ref", ref, base)
    remote = Remote(Repository.open(shared.top), "origin", "main")
    assert remote.list_branches().keys() == {"main", "feat/a", "x/main", "x/feat/a"}
    assert remote.delete({"feat/a": base}) == {}
    assert list(list_refs(shared.hub)) == [
        "refs/heads/main",
        "refs/heads/x/feat/a",
        "refs/heads/x/main",
        "refs/tags/feat/a",
    ]


async def test_tracking_ref_in_the_way_is_named_and_the_remote_is_not_said_to_be_away(shared: RemoteHarness) -> None:
    """The remote once had a branch `main/x`, and git keeps its tracking ref until it is pruned."""
    shared.make({"a": {}})
    shared.git.run("update-ref", "-d", "refs/remotes/origin/main")
    shared.git.run("update-ref", "refs/remotes/origin/main/x", "refs/heads/main")
    with pytest.raises(InputError, match="git remote prune origin") as caught:
        await shared.work()
    assert "refs/remotes/origin/main/x" in str(caught.value)
    assert "does not answer" not in str(caught.value)
    shared.git.run("remote", "prune", "origin")
    assert (await shared.work()).names == {"a": "Merged"}


@pytest.mark.parametrize(
    "spec",
    [
        "+refs/heads/*:refs/heads/*",
        "+refs/heads/main:refs/heads/main",
        "refs/heads/main:refs/heads/mine",
        "+refs/*:refs/*",
    ],
)
@pytest.mark.parametrize("is_clean", [True, False])
async def test_push_moves_no_branch_here_whatever_is_fetched_where(
    shared: RemoteHarness, spec: str, is_clean: bool
) -> None:
    """Git updates the ref that `remote.origin.fetch` maps to: a checked-out branch then moves without its files."""
    shared.make({"a": {}}, "work; git push -q origin HEAD:refs/heads/feat/a")
    shared.git.run("branch", "mine")
    begun = shared.at()
    shared.git.run("config", "--replace-all", "remote.origin.fetch", spec)
    shared.git.run("config", "remote.origin.pushurl", shared.url)
    if not is_clean:
        (shared.top / "a.txt").write_text("in the way\n")
    worked = await shared.work()
    assert (worked.names, worked.pending) == ({"a": "Merged"}, "")
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]
    assert shared.hub_branches() == ["main"]
    assert shared.at("refs/heads/mine") == begun
    assert shared.at() == (shared.at_hub("refs/heads/main") if is_clean else begun)
    assert shared.git.text("status", "--porcelain") == ("" if is_clean else "?? a.txt")


async def test_tracking_ref_that_is_another_name_of_a_branch_here_is_refused(shared: RemoteHarness) -> None:
    """A fetch would move that branch under the checkout."""
    shared.make({"a": {}})
    shared.git.run("symbolic-ref", "refs/remotes/origin/main", "refs/heads/main")
    shared.join("ann").share("Go on", {"x.txt": "x\n"})
    begun = shared.at()
    with pytest.raises(InputError, match="git symbolic-ref --delete refs/remotes/origin/main"):
        await shared.work()
    assert shared.at() == begun


async def test_a_renamed_branch_is_told_with_what_waits_and_how_to_land_it(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {"depends_on": ["a"]}})
    shared.hook("pre-receive", "exit 1")
    await shared.work(only=["a"])
    (shared.hub_path / "hooks" / "pre-receive").unlink()
    shared.hub.run("branch", "-m", "main", "trunk")
    with pytest.raises(InputError) as caught:
        await shared.work()
    push = "git push origin refs/coordinator/queue/main:refs/heads/trunk"
    assert str(caught.value) == (
        "origin no longer has the branch main, so there is nothing to land on; if it was renamed, set `target` in "
        f"coordinator.yaml to its new name (trunk). Not pushed yet: a; push that before, with `{push}`"
    )
    shared.git.run(*push.split()[1:])
    with (shared.top / "coordinator.yaml").open("a") as settings:
        settings.write("\ntarget: trunk\n")
    assert (await shared.work()).names == {"b": "Merged"}


async def test_a_lost_branch_whose_commits_are_on_no_other_is_restored_with_one_line(shared: RemoteHarness) -> None:
    shared.make({"a": {}})
    known = shared.at_hub("main")
    shared.hub.run("symbolic-ref", "HEAD", "refs/heads/none")
    shared.hub.run("update-ref", "-d", "refs/heads/main")
    with pytest.raises(InputError) as caught:
        await shared.work()
    assert f"restore it with `git push origin {known[:12]}:refs/heads/main`" in str(caught.value)
