"""The commands that only read: validate, plan, graph."""

import json
import shlex
import subprocess
import sys

import pytest
from cli_fixtures import SETTINGS, Call, Main, UserRepository, task_text

from tasks_lib.errors import InputError


def test_validate_names_the_faults_of_every_file_at_once(repo: UserRepository, call: Call) -> None:
    repo.write(
        {
            "coordinator.yaml": "max_sesions: 3\nverify: [true]\n",
            "tasks/left.md": task_text("left", depends_on=("bse",)),
            "tasks/odd.md": "---\nid: odd\nstatus: done\n---\n",
        }
    )
    done = call("validate", cwd=repo.top)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (2, "")
    assert [line.split(" ")[0] for line in lines[:-1]] == sorted(line.split(" ")[0] for line in lines[:-1])
    assert {line.partition(":")[0] for line in lines[:-1]} == {"coordinator.yaml", "tasks/left.md", "tasks/odd.md"}
    assert any(line.startswith("coordinator.yaml:1: ") and "max_sessions" in line for line in lines)
    assert any(line.startswith("tasks/left.md:4: ") and 'Did you mean "base"?' in line for line in lines)
    assert "errors" in lines[-1]


def test_validate_says_what_it_read_when_nothing_is_wrong(repo: UserRepository, main_here: Main) -> None:
    assert main_here("validate", str(repo.top)) == (0, "4 task files, 4 edges, no errors\n")


def test_validate_reads_the_checkout_and_with_head_what_is_committed(repo: UserRepository, main_here: Main) -> None:
    repo.write({"tasks/new.md": task_text("new", depends_on=("gone",))})
    assert main_here("validate", str(repo.top))[0] == 2
    code, output = main_here("validate", "--head", str(repo.top))
    assert (code, output) == (0, "4 task files, 4 edges, no errors\n")


def test_validate_marks_warnings_and_does_not_fail_for_them(repo: UserRepository, main_here: Main) -> None:
    repo.commit({"tasks/left.md": task_text("left", status="in-progress", level="polishing")})
    code, output = main_here("validate", str(repo.top))
    assert code == 0
    assert output.count(": warning: ") == 2
    assert output.endswith("2 warnings\n")


def test_validate_says_which_files_a_run_would_not_see(repo: UserRepository, main_here: Main) -> None:
    repo.write({"tasks/new.md": task_text("new")})
    code, output = main_here("validate", str(repo.top))
    assert (code, "1 file not committed" in output) == (0, True)


def test_configuration_of_a_package_is_said_not_to_be_read(repo: UserRepository, main_here: Main) -> None:
    repo.commit({"packages/app/coordinator.yaml": SETTINGS, "packages/app/src/main.py": ""})
    said = "packages/app/coordinator.yaml: warning: is not read"
    for command in ("validate", "plan"):
        code, output = main_here(command, str(repo.top / "packages" / "app" / "src"))
        assert (code, said in output) == (0, True)
        assert said not in main_here(command, str(repo.top))[1]


def test_package_with_task_files_and_none_at_the_top_is_told_where_to_name_them(
    bare_repo: UserRepository, main_here: Main
) -> None:
    bare_repo.commit({"packages/app/coordinator.yaml": SETTINGS, "packages/app/tasks/one.md": task_text("one")})
    package, advice = str(bare_repo.top / "packages" / "app"), "`tasks_dir: packages/app/tasks`"
    with pytest.raises(InputError, match=advice):
        main_here("plan", package)
    code, output = main_here("validate", package)
    assert (code, advice in output) == (2, True)


def test_validate_finds_the_task_folder_of_a_broken_configuration(repo: UserRepository, main_here: Main) -> None:
    repo.write({"coordinator.yaml": "tasks_dir: plan\nmax_sessions: none\n", "plan/one.md": "---\nid: one\n---\n"})
    code, output = main_here("validate", "--json", str(repo.top))
    found = json.loads(output)
    assert (code, found["has_errors"]) == (2, True)
    assert {fault["path"] for fault in found["faults"]} == {"coordinator.yaml", "plan/one.md"}


def test_commands_work_below_the_top_and_in_a_linked_worktree(repo: UserRepository, call: Call) -> None:
    repo.git.run("worktree", "add", "-q", "--detach", str(repo.top.parent / "linked"))
    (repo.top / "docs").mkdir()
    for directory in (repo.top / "docs", repo.top.parent / "linked"):
        assert call("validate", cwd=directory).stdout == "4 task files, 4 edges, no errors\n"


def test_bad_input_is_said_in_sentences_and_ends_with_2(repo: UserRepository, call: Call) -> None:
    repo.commit({"tasks/left.md": task_text("left", depends_on=("nobody",)), "tasks/odd.md": "---\nid: odd\n---\n"})
    for command in ("plan", "graph", "cleanup"):
        done = call(command, cwd=repo.top)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 2)
    outside = call("plan", cwd=repo.top.parent)
    assert (outside.returncode, "Traceback" in outside.stderr, "git init" in outside.stderr) == (2, False, True)


def test_unknown_option_and_unknown_command_end_with_2(repo: UserRepository, call: Call) -> None:
    for arguments in (("plan", "--fast"), ("plam",)):
        done = call(*arguments, cwd=repo.top)
        assert (done.returncode, "Traceback" in done.stderr, done.stderr != "") == (2, False, True)


def test_reader_that_stops_early_gets_no_traceback(repo: UserRepository) -> None:
    line = f"{shlex.quote(sys.executable)} -m flows.cli graph {shlex.quote(str(repo.top))}"
    done = subprocess.run(["sh", "-c", f"{line} | true"], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_plan_shows_groups_path_forecast_and_what_starts(repo: UserRepository, main_here: Main) -> None:
    repo.commit({"tasks/sign.md": task_text("sign", assignee="human", scope="single")})
    code, output = main_here("plan", "--json", str(repo.top))
    found = json.loads(output)
    assert code == 0
    assert found["groups"] == [["left", "right", "sign"], ["top"]]
    assert (found["critical_path"], found["effort"]) == (["left", "top"], 6)
    assert found["forecast"][0] == {"max_sessions": 1, "makespan": 8.0, "bound": 8.0}
    assert found["forecast"][-1] == {"max_sessions": 2, "makespan": 6.0, "bound": 6.0}
    assert (found["starts_now"], found["waiting_for_person"]) == (["left", "right"], ["sign"])


def test_plan_in_words_holds_the_same(repo: UserRepository, main_here: Main) -> None:
    code, output = main_here("plan", str(repo.top))
    assert code == 0
    for text in ("3 nodes open, 1 completed on main.", "left -> top", "2 (configured)", "left: Do left (as "):
        assert text in output


def test_plan_says_what_will_be_reviewed_as_far_as_it_is_known(repo: UserRepository, main_here: Main) -> None:
    repo.commit(
        {"tasks/left.md": task_text("left", risk="high"), "coordinator.yaml": "review: {critical_path: true}\n"}
    )
    assert json.loads(main_here("plan", "--json", str(repo.top))[1])["reviewed"] == {"left": "its risk is high"}
    output = main_here("plan", str(repo.top))[1]
    assert (
        "Reviewed before they land:\n  left: its risk is high\nOthers are reviewed if they change at least 500"
        in output
    )
    repo.commit({"tasks/left.md": task_text("left", scope="moderate")})
    reason = "it is on the critical path, and 1 node waits for it"
    assert json.loads(main_here("plan", "--json", str(repo.top))[1])["reviewed"] == {"left": reason}
    repo.commit({"coordinator.yaml": "review: {when: never}\n"})
    assert "eviewed" not in main_here("plan", str(repo.top))[1]


def test_text_in_brackets_is_printed_as_it_is(repo: UserRepository, main_here: Main) -> None:
    odd = repo.tasks(task_text("left"), task_text("base", status="completed"))
    repo.commit({name: text.replace("name: Do ", "name: Do [/x] [bold] ") for name, text in odd.items()})
    assert "Do [/x] [bold] left" in main_here("plan", str(repo.top))[1]
    assert "Do [/x] [bold] base" in main_here("status", str(repo.top))[1]


def test_plan_of_a_finished_graph_has_nothing_ahead(bare_repo: UserRepository, main_here: Main) -> None:
    bare_repo.commit(bare_repo.tasks(task_text("only", status="completed")))
    assert main_here("plan", str(bare_repo.top)) == (0, "0 nodes open, 1 completed on main.\n")


def test_graph_is_drawn_in_each_format(repo: UserRepository, main_here: Main) -> None:
    assert main_here("graph", str(repo.top))[1].startswith("digraph")
    assert main_here("graph", "--format", "mermaid", str(repo.top))[1].startswith("flowchart")
    assert main_here("graph", "--format", "svg", str(repo.top))[1].startswith("<svg")


def test_graph_is_written_to_a_file_as_its_name_says(repo: UserRepository, main_here: Main) -> None:
    file = repo.top.parent / "graph.svg"
    assert main_here("graph", "--output", str(file), str(repo.top))[0] == 0
    assert file.read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(InputError, match="cannot be written"):
        main_here("graph", "--output", str(file / "below.svg"), str(repo.top))
    picture = repo.top.parent / "graph.png"
    with pytest.raises(InputError, match=r"known format \(\.svg, .*coordinator graph \| dot -Tpng > "):
        main_here("graph", "--output", str(picture), str(repo.top))
    assert not picture.exists()
    assert main_here("graph", "--format", "dot", "--output", str(picture), str(repo.top))[0] == 0


def test_graph_as_json_lists_nodes_after_their_prerequisites(repo: UserRepository, main_here: Main) -> None:
    found = json.loads(main_here("graph", "--json", str(repo.top))[1])
    assert [node["id"] for node in found["nodes"]] == ["base", "left", "right", "top"]
    assert ["left", "top"] in found["edges"]


def test_environment_that_is_wrong_is_named_with_the_rest(repo: UserRepository, call: Call) -> None:
    repo.write({"coordinator.yaml": SETTINGS + "setupp: [x]\n"})
    done = call("validate", cwd=repo.top, environment={"COORDINATOR_MAX_SESSIONS": "many"})
    assert (done.returncode, "COORDINATOR_MAX_SESSIONS" in done.stdout, "setupp" in done.stdout) == (2, True, True)
