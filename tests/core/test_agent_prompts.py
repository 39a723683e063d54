"""The prompts for agents."""

from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.model import REVIEW_LEVEL, Task
from tasks_lib.prompts import agent_prompts
from tasks_lib.prompts.agent_prompts import InstructionFile, Prerequisite, Setting
from tasks_lib.prompts.conflict_prompt import write_conflict_prompt
from tasks_lib.prompts.templates import PLACEHOLDERS, PromptName, TemplateFile, Templates, read_templates

TASK = Task("team/api", "Build the API", "tasks/team/api.md")
REVIEW = Task("check", "Look at it", "tasks/check.md", level=REVIEW_LEVEL)
SETTING = Setting(branch="feat/team/api", target="main", attempt=1, role="implementation-specialist")


def test_first_prompt_contains_the_task_file_how_to_finish_and_how_to_stop() -> None:
    text = agent_prompts.write_task_prompt(TASK, "---\nid: team/api\n---\nBody\n", SETTING)
    assert text.startswith("# Task team/api: Build the API\n")
    assert "```markdown\n---\nid: team/api\n---\nBody\n```" in text
    assert "branch `feat/team/api`" in text
    assert 'git commit -m "feat(team/api): …"' in text
    assert "coordinator notify --level blocking" in text
    assert "blocked(team/api): <reason>" in text
    assert "Verdict" not in text
    assert "before" not in text.split("## How to finish")[0]


def test_first_prompt_of_a_review_asks_for_a_verdict_and_no_commit() -> None:
    text = agent_prompts.write_task_prompt(REVIEW, "x", SETTING)
    assert "Verdict: approved\nVerdict: approved with changes\nVerdict: changes requested" in text
    assert "git commit -m" not in text


def test_prompt_lists_what_prerequisites_changed_and_cuts_a_long_list() -> None:
    before = [Prerequisite(f"p{number}", f"Part {number}", "It works.", " a | 1 +") for number in range(25)]
    text = agent_prompts.write_task_prompt(TASK, "x", SETTING, before)
    assert "### p0: Part 0\n\nIt works.\n\n```\n a | 1 +\n```" in text
    assert "### p19" in text
    assert "### p20" not in text
    assert "and 5 more" in text


def test_prompt_lists_earlier_notes_in_order_and_mentions_the_resumed_worktree() -> None:
    setting = Setting("feat/x", "main", 3, "r", is_resumed=True, notes=("Attempt 1 failed: a", "Given back: b"))
    text = agent_prompts.write_task_prompt(TASK, "x", setting)
    assert text.index("- Attempt 1 failed: a") < text.index("- Given back: b") < text.index("Check `git status`")
    assert "This is attempt 3" in text


def test_project_instructions_are_included_whole_or_cut_with_a_note() -> None:
    style = InstructionFile("AGENTS.md", "# Style\nUse tabs.\n")
    text = agent_prompts.write_task_prompt(TASK, "x", Setting("b", "main", 1, "r", instructions=(style,)))
    assert "## Project instructions, from AGENTS.md\n\n```markdown\n# Style\nUse tabs.\n```\n\n## How" in text
    long = InstructionFile("AGENTS.md", "y" * (agent_prompts.MAX_INSTRUCTION_CHARS + 7))
    cut = agent_prompts.write_review_prompt(
        TASK, "x", "b", "f" * 40, [long, InstructionFile("rules/a.md", "Be brief.")]
    )
    assert "… and 7 more characters; read the rest in `AGENTS.md`." in cut
    assert "## Project instructions, from rules/a.md\n\n… and 9 more characters; read the rest in `rules/a.md`." in cut
    assert "AGENTS.md" not in agent_prompts.write_task_prompt(TASK, "x", SETTING)


def test_a_task_that_adds_task_files_may_do_so() -> None:
    planning = Task("plan", "Plan", "tasks/plan.md", level="planning")
    assert "You may add task files" in agent_prompts.write_task_prompt(planning, "x", SETTING)
    assert "Do not edit other task files." in agent_prompts.write_task_prompt(TASK, "x", SETTING)


def write_all(templates: Templates, text: str = "x") -> dict[PromptName, str]:
    return {
        "task": agent_prompts.write_task_prompt(TASK, text, SETTING, (), templates),
        "review": agent_prompts.write_review_prompt(TASK, text, "feat/team/api", "f" * 40, (), templates),
        "conflict": write_conflict_prompt([text], ["1 a"], ["2 b"], "f" * 40, templates),
        "red": agent_prompts.write_red_prompt("make", "exited with 2", text, "/log", "f" * 40, templates),
        "changes": agent_prompts.write_changes_prompt(text, templates),
    }


def test_every_placeholder_of_every_prompt_is_replaced() -> None:
    own: dict[PromptName, TemplateFile] = {
        name: TemplateFile("p.md", "\n".join(f"<{one}>${{{one}}}" for one in known))
        for name, known in PLACEHOLDERS.items()
    }
    for name, text in write_all(read_templates(own)).items():
        assert [one for one in PLACEHOLDERS[name] if f"<{one}>" not in text] == []
        assert "$" not in text.replace("$COORDINATOR_TARGET", "")


def test_placeholders_in_values_are_not_replaced() -> None:
    said = "costs $5, ${id}, $$, $task and $nothing"
    assert all(said in text for text in write_all(read_templates({}), said).values())


def test_messages_of_the_user_are_added_to_a_prompt_or_form_one() -> None:
    assert agent_prompts.add_messages("Go on.\n", ()) == "Go on.\n"
    assert agent_prompts.add_messages("Go on.", ("Use `x`.", "No.")) == (
        "Go on.\n\nThe user says:\n\n```\nUse `x`.\n\nNo.\n```\n"
    )
    assert agent_prompts.add_messages("", ("No.",)).startswith("The user says")


@given(st.text(alphabet=st.sampled_from("`a\n #"), max_size=60))
def test_fence_is_longer_than_any_run_of_backticks_inside(text: str) -> None:
    first, *inside, last = agent_prompts.fence(text).split("\n")
    assert first == last
    assert set(first) == {"`"}
    assert "\n".join(inside) == text.rstrip()
    assert not any(
        len(first) <= len(run) for line in inside for run in line.replace("a", " ").split(" ") if "#" not in run
    )


def test_conflict_prompt_names_paths_both_sides_and_the_commit_to_merge() -> None:
    text = write_conflict_prompt(["a.txt", "b c.txt"], ["111 theirs"], ["222 mine"], "f" * 40)
    assert "- a.txt\n- b c.txt" in text
    assert text.index("111 theirs") < text.index("Your commits:") < text.index("222 mine")
    assert f"git merge {'f' * 40}" in text


def test_conflict_prompt_says_when_a_side_has_no_commits() -> None:
    assert "- (none)" in write_conflict_prompt(["a"], [], ["222 mine"], "f" * 40)


def test_red_prompt_contains_the_line_its_status_the_end_of_the_log_and_its_path() -> None:
    tail = "start\n" + "x" * agent_prompts.MAX_LOG_CHARS + "end"
    text = agent_prompts.write_red_prompt("make test", "exited with 2", tail, "/logs/verify.log", "f" * 40)
    assert "`make test` exited with 2" in text
    assert "end" in text
    assert "start" not in text
    assert "/logs/verify.log" in text


def test_review_prompt_says_what_to_compare_and_changes_prompt_quotes_the_review() -> None:
    text = agent_prompts.write_review_prompt(TASK, "body", "feat/team/api", "f" * 40)
    assert f"git diff {'f' * 40}...HEAD" in text
    assert text.rstrip().endswith("Verdict: changes requested")
    assert "Line 3 is wrong." in agent_prompts.write_changes_prompt("Line 3 is wrong.")
