"""The short form of `make fuzz`, and proofs that its judge detects what it looks for."""

import random

from campaign import SEED, Tally, describe, try_case
from hostile_input import KINDS, Case, encode, list_keys, make_case, mutate, write_key
from hostile_values import SNIPPETS, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import difference, find_malformed, is_safe, judge, noting_side_effects

from tasks_lib.errors import Fault

COUNT = 400


def test_hundreds_of_hostile_inputs_give_a_value_or_clear_faults() -> None:
    tally = Tally()
    for number in range(COUNT):
        tally.add(try_case(SEED, number))
    said = [f"{one.number}: {one.judgement.violations}" for one in tally.violations]
    assert not said, "\n".join([*said, f"again: FUZZ_SEED={SEED} FUZZ_COUNT={COUNT} make fuzz"])
    assert {one.kind for one in tally.results} == set(KINDS)
    assert {one.judgement.outcome for one in tally.results} >= {"read", "refused"}
    assert list(describe(SEED, tally))[-1] == f"{COUNT} cases of seed {SEED}, 0 violations"


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_any_seed_gives_a_value_or_clear_faults(seed: int) -> None:
    assert try_case(seed, 0).judgement.violations == ()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_any_bytes_as_a_task_file_give_a_value_or_clear_faults(data: bytes, seed: int) -> None:
    hostile = mutate(b"---\nid: a\nname: b\n---\n" + data, random.Random(seed))
    assert judge(Case("any", "task", 0, 0, {"tasks/a.md": hostile})).violations == ()


def test_every_key_takes_or_refuses_every_hostile_value() -> None:
    wrong: list[str] = []
    for number, key in enumerate(list_keys()):
        # Each key gets a share of the texts, in every form that a text can take there, and all of the snippets.
        words = [f'"{text}"' for text in TEXTS[number % 7 :: 7] if text.isprintable() and not set(text) & {'"', "\\"}]
        for value in (*SNIPPETS, *words, *(f"[{word}]" for word in words), *(f"{{x: {word}}}" for word in words)):
            case = Case("key", "settings", 0, 0, {"coordinator.yaml": encode(write_key(key, value))})
            wrong += [f"{'.'.join(key)}: {value[:60]!r}: {one}" for one in judge(case).violations]
    assert wrong == []


def test_a_case_can_be_made_again() -> None:
    assert [make_case(7, number) for number in range(50)] == [make_case(7, number) for number in range(50)]
    assert make_case(7, 1) != make_case(8, 1)


def test_the_judge_sees_what_it_looks_for() -> None:
    case = Case("", "task", 0, 0, {"a.md": b"1\n2\n"})
    bad = [
        Fault("b.md", 1, "x"),
        Fault("a.md", 9, "x"),
        Fault("a.md", 1, "x\ny"),
        Fault("a.md", 1, "x" * 500),
        Fault("a.md", 1, " "),
    ]
    assert [len(list(find_malformed([fault], case))) for fault in bad] == [1] * 5
    assert list(find_malformed([], case)) == ["refuses without a fault"]
    assert not any(
        map(is_safe, ("../x", "-x", "a/.b", "a//b", "x.lock", "@", "a\tb", "cafe\u0301", "\u202e", "x" * 251))
    )
    assert difference("a\nb\nc", "a\nx\ny\nc") == (["b"], ["x", "y"])
    with noting_side_effects() as events, open(__file__, "rb"):  # noqa: PTH123 - The hook gets the event of `open` itself.
        pass
    assert len(events) == 1


def test_the_judge_sees_an_exception_of_another_kind() -> None:
    # The reader looks for a configuration among the files, and there is none.
    found = judge(Case("odd", "settings", 0, 0, {}))
    assert (found.outcome, found.violations[0].split()[0]) == ("broken", "KeyError")
