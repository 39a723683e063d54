"""Decides what a result of `verify` means: the work is given back, the queue is held, or the work lands."""

from tasks_lib.landing.results import Held
from tasks_lib.runtime.setup_and_verify import Green, Red, describe_untested_lines


def hold_red_base(red: Red, target: str) -> Held:
    """Hold the queue because `verify` is `red` on the head of `target` alone, so no session is to blame."""
    if red.broken:
        how = f"`{red.line}` {red.how} on {target} itself, without any of this work"
        return Held(f"The gate is broken: {how} ({red.broken}; log: {red.log})", is_broken=True)
    return Held(f"{target} itself is red without any of this work: `{red.line}` {red.how} (log: {red.log})")


def judge_untested_lines(green: Green, on_head: Green, target: str) -> Red | Held | str:
    """Decide what to do with work on which a line of `verify` passed but ran no test.

    `green` is the result for the work, with at least one such line, and `on_head` the result for the head alone.
    Returns Red if the work is to blame, and Held if no line tests anything on the head either. Otherwise the work may
    land, and a note for the user is returned.
    """
    known = dict(on_head.idle)
    for line, said in green.idle:
        if line not in known:
            return Red(line, f"ran no test ({said}), although it runs some without this work", said, "")
    if green.is_vacuous:
        return Held(_describe_vacuous(green, target), is_broken=True)
    line, said = green.idle[0]
    return f"`{line}` of `verify` runs no test ({said}); only its other lines check what lands."


def _describe_vacuous(green: Green, target: str) -> str:
    """Explain why nothing lands after a result that tested nothing, and what to do about it."""
    ways = "Add a test, or a line to `verify` that checks something, such as a build"
    return f"The gate is broken: on {target}, without any of this work, {describe_untested_lines(green)}. {ways}"
