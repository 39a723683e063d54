"""What a result of `verify` means for the work, tested with plain values."""

from tasks_lib.landing.results import Held
from tasks_lib.landing.verify_results import hold_red_base, judge_untested_lines
from tasks_lib.runtime.setup_and_verify import Green, Red

NO_TESTS = ("pytest", "no tests ran")


def test_line_that_runs_tests_on_the_head_and_none_on_the_work_blames_the_work() -> None:
    found = judge_untested_lines(Green((NO_TESTS,), is_vacuous=True), Green(), "main")
    assert found == Red(
        "pytest", "ran no test (no tests ran), although it runs some without this work", NO_TESTS[1], ""
    )


def test_verify_that_tests_nothing_on_the_head_either_holds_the_queue_as_broken() -> None:
    green = Green((NO_TESTS,), is_vacuous=True)
    found = judge_untested_lines(green, green, "main")
    assert isinstance(found, Held)
    assert found.is_broken
    assert "`pytest` runs no test (no tests ran)" in found.reason


def test_work_lands_with_a_note_where_other_lines_check_it() -> None:
    green = Green((NO_TESTS,))
    found = judge_untested_lines(green, green, "main")
    assert found == "`pytest` of `verify` runs no test (no tests ran); only its other lines check what lands."


def test_red_head_holds_the_queue_and_is_broken_only_if_verify_could_not_run() -> None:
    assert not hold_red_base(Red("make", "exited with 1", "", "log"), "main").is_broken
    held = hold_red_base(Red("make", "exited with 127", "", "log", broken="make was not found"), "main")
    assert held.is_broken
    assert held.reason.startswith("The gate is broken: `make` exited with 127 on main itself")
