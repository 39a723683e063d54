"""Traces recorded from real process trees are judged as what they were, in whole turns replayed from them."""

import math
import random

import pytest

from bench.watch import LIMITS, TRACES, judge, make_samples
from bench.watch_traces import read_trace, replay, settle
from tasks_lib.session.liveness import Sample

SEEDS = range(5)
TREES = {path.stem: path for path in sorted(TRACES.glob("*.json"))}
AT_A_TERMINAL = {"a-pager", "a-password-prompt", "an-editor"}


@pytest.mark.parametrize("name", TREES)
def test_replayed_tree_is_ended_at_its_limit_unless_it_works(name: str) -> None:
    _, is_healthy, samples = read_trace(TREES[name])
    limit = LIMITS.input_seconds if name in AT_A_TERMINAL else LIMITS.tool_seconds
    for seed in SEEDS:
        steps = replay(samples if is_healthy else settle(samples), random.Random(seed))
        ended = judge(make_samples(steps, 2.5 * limit, Sample(0.0, 0)))
        assert ended == math.inf if is_healthy else limit <= ended <= 2 * limit


def test_every_kind_of_tree_is_recorded() -> None:
    assert TREES.keys() >= AT_A_TERMINAL | {"pytest", "a-compiler", "a-hung-socket", "a-loop-that-polls"}
