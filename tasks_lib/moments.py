"""Turns seconds since the epoch that others have written into dates, which Python has only up to the year 9999."""

from datetime import UTC, datetime, timedelta

LAST_SECOND = int((datetime.max.replace(tzinfo=UTC) - timedelta(days=2)).timestamp())
"""The last moment that can still be shown in every time zone, in seconds since the epoch."""


def find_moment(seconds: float) -> datetime:
    """The moment `seconds` after the epoch, in UTC; the first or the last one that there is if it is beyond."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), LAST_SECOND), UTC)
