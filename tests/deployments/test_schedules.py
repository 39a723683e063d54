"""What may be asked of a schedule, and what is said of a mistake."""

from datetime import UTC, datetime

import pytest

from flows.deployments.definitions import Schedule
from flows.deployments.schedules import parse_schedules

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def find_faults(cron: str, timezone: str = "") -> list[str]:
    return parse_schedules({"--cron": cron, "--cleanup-cron": ""}, timezone, NOW)[1]


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/5 8-18 * * mon-fri", "@daily", " 0 0 29 2 * ", "0 0 1,15 * 3"])
def test_valid_expressions_are_accepted_in_utc_by_default(cron: str) -> None:
    schedules, faults = parse_schedules({"--cron": cron}, "", NOW)
    assert (schedules, faults) == ({"--cron": Schedule(cron.strip(), "UTC")}, [])


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("61 0 * * *", "not a valid cron expression"),
        ("a b c d e", "not a valid cron expression"),
        ("@dayly", "not a valid cron expression"),
        ("R 0 * * *", "not a valid cron expression"),
        ("0 2 * *", "has 4 fields"),
        ("0 0 2 * * *", "has 6 fields"),
        ("0 0 31 2 *", "never comes"),
    ],
)
def test_a_mistake_in_an_expression_is_said_with_the_option_and_the_value(cron: str, words: str) -> None:
    (fault,) = find_faults(cron)
    assert fault.startswith(f'--cron "{cron}" ')
    assert words in fault


def test_a_wrong_time_zone_is_said_with_the_one_that_was_meant() -> None:
    assert find_faults("0 2 * * *", "Europe/Berln") == [
        '--timezone "Europe/Berln" is not a time zone. Did you mean "Europe/Berlin"?'
    ]
    (fault,) = find_faults("0 2 * * *", "+02:00")
    assert '"Europe/Berlin"' in fault


def test_all_mistakes_are_said_at_once() -> None:
    assert len(find_faults("0 2 * *", "Mars")) == 2
    (fault,) = find_faults("", "UTC")
    assert "`--timezone` only works with `--cron` or `--cleanup-cron`" in fault
