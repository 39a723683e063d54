"""Decides when a provider that refused a request may be asked again, from the headers of its answer."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_RESET = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:(?P<before>[a-z-]+)-)?reset(?:-(?P<after>[a-z-]+))?")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_EPOCH = 1e9
"""Larger numbers are points in time rather than durations, in milliseconds if larger than a thousand times this."""


def find_reset(headers: Mapping[str, str], now: float) -> float:
    """Return the time that `headers` name, in seconds since the epoch; 0 if they name none.

    The reset of a limit that is not exhausted (`…-remaining-…`) is ignored.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    if milliseconds := _read_number(lower.get("retry-after-ms", "")):
        return now + milliseconds / 1000
    if until := _read_moment(lower.get("retry-after", ""), now):
        return until
    return max((_read_moment(value, now) for name, value in lower.items() if _is_used_up(name, lower)), default=0.0)


def _is_used_up(name: str, headers: Mapping[str, str]) -> bool:
    if not _RESET.fullmatch(name):
        return False
    left = _read_number(headers.get(name.replace("reset", "remaining"), "0"))
    return left == 0


def _read_moment(text: str, now: float) -> float:
    number = _read_number(text)
    if number > _EPOCH * 1000:
        return number / 1000
    if number > _EPOCH:
        return number
    if number:
        return now + number
    return _read_duration(text, now) or _read_date(text)


def _read_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _read_duration(text: str, now: float) -> float:
    found = _DURATION.fullmatch(text)
    parts = found.groups() if found else ()
    seconds = sum(float(part) * unit for part, unit in zip(parts, _UNITS, strict=False) if part)
    return now + seconds if seconds else 0.0


def _read_date(text: str) -> float:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text)
        except (ValueError, TypeError, IndexError):
            continue
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return 0.0
