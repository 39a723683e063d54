"""A run never waits for input: prompts from agent, setup and verify are refused at once, with the reason."""

import pytest
from e2e.opencode_harness import OpencodeHarness, bash, commit, node, read_results
from run_harness import RunHarness

ASKS = """\
git config user.name a; git config user.email a@b
git commit --allow-empty || echo "refused: message"
git rebase -i --root || echo "refused: list"
git tag -a v1 || echo "refused: tag"
printf 'protocol=http\\nhost=x\\n\\n' | git credential fill || echo "refused: password"
"$EDITOR" notes || echo "refused: editor"
(: < /dev/tty) || echo "refused: terminal"
git --paginate log -n1 --format='shown: %s'
"""
SAID = (
    "nobody is here to write the message: give it with -m TEXT or -F FILE",
    "nobody is here to edit the list of commits",
    """nobody is here to answer "Username for 'http://x': \"""",
    "nobody is here to edit notes",
    *(f"refused: {what}" for what in ("message", "list", "tag", "password", "editor", "terminal")),
    "shown: ",
)


def wait_everywhere(harness: RunHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the user's editor, pager and dialogs so that they wait for input indefinitely."""
    dialog = harness.place / "dialog"
    dialog.write_text("#!/bin/sh\nexec sleep 1000\n")
    dialog.chmod(0o755)
    for name in ("core.editor", "sequence.editor", "core.pager", "core.askPass", "pager.log", "merge.tool"):
        harness.git.run("config", name, str(dialog))
    for name in ("GIT_EDITOR", "EDITOR", "VISUAL", "PAGER", "GIT_ASKPASS", "SSH_ASKPASS"):
        monkeypatch.setenv(name, str(dialog))


async def test_agent_setup_and_verify_are_answered_with_no_and_see_why(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(kind: str) -> str:
        return f"( set +e\n{ASKS} ) > {harness.place}/{kind}.said 2>&1 || true"

    harness.make(
        {"a": {}},
        f"{ask('agent')}\nwork",
        setup=[ask("setup")],
        verify=[ask("verify")],
        env={kind: ["EDITOR", "PAGER", "GIT_*"] for kind in ("agent", "setup", "verify")},
    )
    wait_everywhere(harness, monkeypatch)
    assert (await harness.work()).names == {"a": "Merged"}
    for kind in ("agent", "setup", "verify"):
        said = (harness.place / f"{kind}.said").read_text()
        assert [words for words in SAID if words not in said] == [], f"{kind}: {said}"


@pytest.mark.xdist_group("opencode")
async def test_shell_of_opencode_is_answered_with_no_and_the_model_sees_why(
    oc: OpencodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    oc.make({"a": node(bash(f"( set +e\n{ASKS} ) 2>&1"), bash("python3; read -r x; echo ended"), commit("a"))})
    wait_everywhere(oc, monkeypatch)
    assert (await oc.work()).names == {"a": "Merged"}
    said, ended, _ = read_results(oc.requests("a")[-1])
    assert [words for words in SAID if words not in said] == [], said
    assert "ended" in ended


async def test_merges_that_the_prompt_asks_for_need_no_editor(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.make(
        {"a": {}, "b": {"depends_on": ["a"]}},
        'if [ $id = b ]; then git reset -q --hard HEAD~1; fi; echo "$id" > own.$id; commit "feat($id): own"\n'
        'git merge "$COORDINATOR_TARGET"; git log -1 --format=%s > subject.$id; commit "feat($id): say"',
    )
    wait_everywhere(harness, monkeypatch)
    assert (await harness.work()).names == {"a": "Merged", "b": "Merged"}
    assert harness.show("subject.b").startswith("Merge commit")


async def test_an_editor_that_a_line_names_itself_is_used(harness: RunHarness) -> None:
    harness.make({"a": {}}, "echo x > x; git add x; GIT_EDITOR='echo feat: mine >' git commit -q")
    assert (await harness.work()).names == {"a": "Merged"}
    assert "feat: mine" in harness.git.text("log", "--format=%s")


async def test_a_program_for_passwords_that_is_named_in_full_answers(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = harness.place / "answer"
    answer.write_text("#!/bin/sh\necho known\n")
    answer.chmod(0o755)
    monkeypatch.setenv("GIT_ASKPASS", str(answer))
    asked = "printf 'protocol=http\\nhost=x\\n\\n' | git credential fill > answered.txt; "
    harness.make({"a": {}}, asked + "commit 'feat: ask'", env={"agent": ["GIT_ASKPASS"]})
    assert (await harness.work()).names == {"a": "Merged"}
    assert "password=known" in harness.show("answered.txt")
