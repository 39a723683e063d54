"""What a session is told of a conflict: the kind, both sides' changes, and what landed there and why."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from merge_fixtures import MergeFixture, task_text

from tasks_lib.git.compose.commit_composer import Candidate, Conflict
from tasks_lib.landing.conflict_facts import read_conflict_facts
from tasks_lib.prompts.conflict_prompt import ConflictFacts, describe_kind, write_conflict_prompt

Files = Mapping[str, str | bytes | None]
TEXT = "".join(f"line {number} of a text\n" for number in range(12))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[MergeFixture]:
    files: dict[str, str | bytes | None] = {
        "src.txt": TEXT,
        "data.bin": b"\0\1\2" * 50,
        "tasks/api.md": task_text("api"),
        "tasks/db.md": task_text("db").replace("Do it.", "Store every *order*.\n\n```script\nrun\n```"),
    }
    found = MergeFixture(tmp_path / "repo", files)
    yield found
    found.close()


def conflict(shop: MergeFixture, branch: Files, head: Files) -> tuple[Conflict, ConflictFacts]:
    """The conflict of api's branch with a head on which db has landed."""
    mine, other = shop.branch("feat/api", branch), shop.branch("feat/db", head)
    landed = shop.composer.compose_merge(shop.landing("db", other, summary="Added the index."), shop.tip())
    assert isinstance(landed, Candidate)
    found = shop.composer.compose_merge(shop.landing("api", mine), landed.commit)
    assert isinstance(found, Conflict), found
    return found, read_conflict_facts(shop.composer, found, landed.commit, mine)


def test_prompt_says_what_the_other_task_was_for_and_what_both_sides_changed(shop: MergeFixture) -> None:
    found, facts = conflict(
        shop, {"src.txt": TEXT.replace("line 3", "my 3")}, {"src.txt": TEXT.replace("line 3", "their 3")}
    )
    text = write_conflict_prompt(found.paths, found.head_commits, found.branch_commits, "f" * 40, facts=facts)
    assert "- src.txt: changed on both sides\n" in text
    assert "### Task db: Do db\n" in text
    assert "changed src.txt.\n\nIts goal:\n> Store every *order*.\n>\n> ```script\n" in text
    assert "Its report:\n> Added the index." in text
    theirs, mine = text.split("src.txt, your branch:")
    assert "-line 3 of a text\n+their 3 of a text" in theirs
    assert "-line 3 of a text\n+my 3 of a text" in mine
    assert "no change of either side is missing" in text
    assert "Dropped: <path>: <why>" in text


def test_commit_of_a_person_is_shown_by_its_subject(shop: MergeFixture) -> None:
    mine = shop.branch("feat/api", {"src.txt": TEXT.replace("line 3", "my 3")})
    shop.commit({"other.txt": "x"}, "Something else")
    head = shop.commit({"src.txt": TEXT.replace("line 3", "their 3")}, "Fix line 3 by hand")
    found = shop.composer.compose_merge(shop.landing("api", mine), head)
    assert isinstance(found, Conflict)
    facts = read_conflict_facts(shop.composer, found, head, mine)
    text = write_conflict_prompt(found.paths, (), (), head, facts=facts)
    assert f"### Commits without a task\n- {head[:10]} Fix line 3 by hand (src.txt)\n" in text
    assert "Something else" not in text
    assert "### Task" not in text


@pytest.mark.parametrize(
    ("branch", "head", "path", "kind"),
    [
        ({"src.txt": None}, {"src.txt": TEXT + "x\n"}, "src.txt", "changed by what landed, deleted or renamed on your"),
        ({"src.txt": TEXT + "x\n"}, {"src.txt": None}, "src.txt", "deleted or renamed by what landed, changed on your"),
        ({"new.txt": "a\n"}, {"new.txt": "b\n"}, "new.txt", "added on both sides"),
        ({"data.bin": b"\0\1"}, {"data.bin": b"\0\2"}, "data.bin", "changed on both sides; it is not a text"),
        (
            {"src.txt": TEXT.replace("line 3", "my 3")},
            {"src.txt": None, "moved.txt": TEXT.replace("line 3", "their 3")},
            "moved.txt",
            "what landed renamed it from src.txt; changed on both sides",
        ),
        (
            {"src.txt": None, "moved.txt": TEXT.replace("line 3", "my 3")},
            {"src.txt": TEXT.replace("line 3", "their 3")},
            "moved.txt",
            "you renamed it from src.txt; changed on both sides",
        ),
    ],
)
def test_kind_of_the_conflict_is_said(shop: MergeFixture, branch: Files, head: Files, path: str, kind: str) -> None:
    found, facts = conflict(shop, branch, head)
    assert path in found.paths
    (one,) = (one for one in facts.paths if one.path == path)
    assert describe_kind(one).startswith(kind)
    assert one.head_diff
    assert one.branch_diff
    assert [work.id for work in facts.works] == ["db"]


def test_link_and_submodule_in_conflict_are_named_as_such(shop: MergeFixture) -> None:
    (shop.top / "link").symlink_to("src.txt")
    shop.sh("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},lib")
    shop.commit({})
    for name, commit, target in (("feat/api", "2" * 40, "a"), ("feat/db", "3" * 40, "b")):
        shop.sh("checkout", "-q", "-b", name, "main")
        (shop.top / "link").unlink()
        (shop.top / "link").symlink_to(target)
        shop.sh("add", "link")
        shop.sh("update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
        shop.sh("commit", "-qm", f"Change {name}")
        shop.sh("checkout", "-q", "main")
    head, mine = shop.tip("feat/db"), shop.tip("feat/api")
    facts = read_conflict_facts(shop.composer, Conflict(("lib", "link"), ()), head, mine)
    kinds = {one.path: describe_kind(one) for one in facts.paths}
    assert kinds["lib"].startswith("a submodule")
    assert kinds["link"] == "changed on both sides"
    assert f"+Subproject commit {'3' * 40}" in facts.paths[0].head_diff


def test_long_changes_and_goals_are_cut_with_what_is_left(shop: MergeFixture) -> None:
    text = "".join(f"a long line with the number {number} of many\n" for number in range(4_000))
    found, facts = conflict(shop, {"src.txt": text}, {"src.txt": text.replace("many", "others")})
    prompt = write_conflict_prompt(found.paths, (), (), "f" * 40, facts=facts)
    assert len(prompt) < 14_000
    assert " more lines\n```" in prompt


def test_branch_without_a_common_commit_has_no_facts(shop: MergeFixture) -> None:
    shop.sh("checkout", "-q", "--orphan", "alone")
    alone = shop.commit({"src.txt": "x\n"})
    facts = read_conflict_facts(shop.composer, Conflict(("src.txt",), ()), shop.tip(), alone)
    assert facts == ConflictFacts()
