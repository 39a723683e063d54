"""Checks what is asked of a schedule: a cron expression and a time zone."""

import re
import zoneinfo
from collections.abc import Mapping
from datetime import datetime

# What Prefect's server itself uses, and so what decides; Prefect exports no way to ask for the next time.
from prefect._vendor.croniter import CroniterBadDateError, CroniterError, croniter

from flows.deployments.definitions import Schedule
from tasks_lib.suggestions import suggest

FIELDS = 5
UTC = "UTC"
_RANDOM = re.compile(r"(?<![a-z])[rh](?![a-z])", re.IGNORECASE)
_SHAPE = 'five fields (minute hour day month weekday), such as "0 2 * * *" for each night at two, or e.g. @daily'


def parse_schedules(crons: Mapping[str, str], timezone: str, now: datetime) -> tuple[Mapping[str, Schedule], list[str]]:
    """Return a schedule for each option in `crons` that has a value, and everything that is wrong with the values.

    `timezone` "" means UTC.
    """
    given = {option: cron.strip() for option, cron in crons.items() if cron.strip()}
    faults = [fault for option, cron in given.items() for fault in _find_faults(cron, option, now)]
    faults += _find_timezone_faults(timezone) if timezone else []
    if timezone and not given:
        faults.append(f"`--timezone` only works with {' or '.join(f'`{one}`' for one in crons)}; give that too")
    return {option: Schedule(cron, timezone or UTC) for option, cron in given.items()}, faults


def _find_faults(cron: str, option: str, now: datetime) -> list[str]:
    count = len(cron.split())
    if count != FIELDS and not cron.startswith("@"):
        return [f'{option} "{cron}" has {count} fields; it needs {_SHAPE}']
    if _RANDOM.search(cron):
        return [f'{option} "{cron}" is not a valid cron expression: Prefect supports no random times (R, H)']
    try:
        croniter(cron, now).get_next()  # pyright: ignore[reportUnknownMemberType]
    except CroniterBadDateError:
        return [f'{option} "{cron}" names a time that never comes; choose another day or month']
    except (CroniterError, ValueError, TypeError) as error:
        return [f'{option} "{cron}" is not a valid cron expression ({error}); it needs {_SHAPE}']
    return []


def _find_timezone_faults(timezone: str) -> list[str]:
    known = zoneinfo.available_timezones()
    if timezone in known:
        return []
    hint = suggest(timezone, known) or '; it needs a name such as "Europe/Berlin" or "UTC"'
    return [f'--timezone "{timezone}" is not a time zone{hint}']
