"""Decides which variables describe a turn to every agent, and how much of its answer is kept."""

from tasks_lib.agents.backend import SessionSpec, TurnSpec

ANSWER_BYTES = 4000


def name_turn(spec: SessionSpec, turn: TurnSpec) -> dict[str, str]:
    """Return the variables that describe the turn; `environment.TURN_NAMES` lists them."""
    return {
        "COORDINATOR_TASK_ID": spec.task_id,
        "COORDINATOR_TASK_FILE": spec.task_file,
        "COORDINATOR_BRANCH": spec.branch,
        "COORDINATOR_WORKTREE": str(spec.cwd),
        "COORDINATOR_ROLE": spec.role,
        "COORDINATOR_ATTEMPT": str(turn.attempt),
        "COORDINATOR_TURN": str(turn.turn),
        "COORDINATOR_SESSION": spec.session,
        "COORDINATOR_TARGET": turn.target,
        "COORDINATOR_SLOT": str(spec.slot),
    }
