"""Where `make chaos` kills, as decided from the side effects of an undisturbed run."""

from chaos.kill_points import Effect, list_kills

from flows.prefect_server import ONCE_RECORDED, SERVER
from tasks_lib.process.python_command import python_command


def test_nothing_is_killed_after_the_end_of_a_program_that_runs_until_it_gets_a_signal() -> None:
    argv = ("sh", *ONCE_RECORDED, *python_command("-m", SERVER, "--port", "1"))
    effect = Effect(1, "process", f"process {' '.join(argv)} @ flows.prefect_server.launch", argv, is_plain=False)
    assert [kill.first.mode for kill in list_kills([effect])] == ["before", "orphan"]
