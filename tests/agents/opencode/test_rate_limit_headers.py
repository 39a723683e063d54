"""When a provider may be asked again, from the headers of its refusal."""

import pytest

from tasks_lib.agents.opencode.api.error_classification import read_problem
from tasks_lib.agents.opencode.api.rate_limit_headers import find_reset

NOW = 1_795_708_800.0
"""2026-11-26 16:00:00 UTC."""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "86400"}, 86_400),
        ({"retry-after": "Fri, 27 Nov 2026 16:00:00 GMT"}, 86_400),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ratelimit-reset-requests": "24h0m0s"}, 86_400),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-reset-tokens": "250ms"}, 0.25),
        ({"anthropic-ratelimit-requests-reset": "2026-11-27T16:00:00Z"}, 86_400),
        ({"x-ratelimit-reset": "1795795200"}, 86_400),
        ({"x-ratelimit-reset": "1795795200000"}, 86_400),
        ({"ratelimit-reset": "60"}, 60),
        ({"x-ratelimit-reset-requests": "24h", "x-ratelimit-remaining-requests": "7"}, None),
        ({"x-ratelimit-reset-requests": "24h", "x-ratelimit-remaining-requests": "0"}, 86_400),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"x-ratelimit-limit-requests": "100"}, None),
        ({}, None),
    ],
)
def test_reset_is_read_as_providers_write_it(headers: dict[str, str], seconds: float | None) -> None:
    assert find_reset(headers, NOW) == (0 if seconds is None else NOW + seconds)


@pytest.mark.parametrize(
    ("status", "said", "is_limit"),
    [
        (429, "Slow down", True),
        (529, "Overloaded", True),
        (503, "The model is overloaded", True),
        (503, "Down for repairs", False),
        (500, "Out of order", False),
    ],
)
def test_overload_is_a_wait_and_no_fault_of_the_turn(status: int, said: str, is_limit: bool) -> None:
    data = {"message": said, "statusCode": status, "responseHeaders": {"retry-after": "60"}}
    problem = read_problem({"name": "APIError", "data": data}, "scripted/m1")
    assert problem.is_rate_limit is is_limit
    assert (bool(problem.until), problem.is_outage) == (is_limit, not is_limit)


@pytest.mark.parametrize(
    ("said", "is_outage"),
    [
        ("Cannot connect to API: Unable to connect. Is the computer able to access the url?", True),
        ("Cannot connect to API: getaddrinfo ENOTFOUND api.example.com", True),
        ("Tool schema is invalid", False),
    ],
)
def test_provider_that_cannot_be_reached_is_an_outage(said: str, is_outage: bool) -> None:
    problem = read_problem({"name": "UnknownError", "data": {"message": said}}, "scripted/m1")
    assert problem.is_outage is is_outage
