"""What `coordinator take` prints and does without a run: the worktree, and `setup` in it, with its failure."""

import json

from cli_fixtures import SETTINGS, Call, UserRepository, task_text


def test_failed_setup_is_said_with_its_output_and_runs_again_until_it_passes(repo: UserRepository, call: Call) -> None:
    setup = "setup:\n  - echo no compiler; test -e ../../../ready\n"
    repo.commit({"coordinator.yaml": SETTINGS + setup, **repo.tasks(task_text("design", assignee="human"))})
    worktree, log = repo.top / ".worktrees/feat/design", repo.top / ".git/coordinator/logs/design/setup.log"
    line = "echo no compiler; test -e ../../../ready"

    done = call("take", "design", cwd=repo.top)

    said = done.stdout.splitlines()
    assert done.returncode == 1
    assert said[0] == f"Running `setup` in {worktree}; its output is in {log}."
    assert said[1].startswith(f"design is yours: {worktree}, on branch feat/design.")
    assert said[2:] == [
        f"`setup` failed in {worktree}: `{line}` exited with 1 (log: {log})",
        "no compiler",
        "Fix the cause, then run `coordinator take design` again, which repeats it and keeps what is in the worktree",
    ]
    (repo.top / "ready").touch()
    again = call("take", "design", "--json", cwd=repo.top)
    found = json.loads(again.stdout)
    assert (again.returncode, [one["is_done"] for one in found["answers"]]) == (0, [True])
    third = call("take", "design", cwd=repo.top)
    assert (third.returncode, third.stdout.count("\n")) == (0, 1)
    assert log.read_text().count(f"$ {line}\n") == 2
