"""Decides what a result of `verify` means: the work goes back to its session, the queue is held, or the work lands."""

from tasks_lib.landing.results import Held
from tasks_lib.runtime.setup_and_verify import Green, Red, describe_untested_lines


def hold_red_base(red: Red, target: str) -> Held:
    """Hold the queue because `verify` is `red` on the head of `target` alone, so that no session is to blame."""
    if red.broken:
        how = f"`{red.line}` {red.how} on {target} itself, without any of this work"
        return Held(f"The gate is broken: {how} ({red.broken}; log: {red.log})", is_broken=True)
    return Held(f"{target} itself is red without any of this work: `{red.line}` {red.how} (log: {red.log})")


def judge_untested_lines(green: Green, on_head: Green, target: str) -> Red | Held | str:
    """What to do with work on which a line of `verify` ran no test, although it passed.

    `green` is the result for the work, with at least one such line, and `on_head` the one for the head alone. Returns
    Red if the work is to blame, Held if no line tests anything on the head either, and otherwise a note for the user:
    then the work may land.
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
    """Why a result that tested nothing lands nothing, and what to do about it."""
    ways = "Add a test, or a line to `verify` that checks something, such as a build"
    return f"The gate is broken: on {target}, without any of this work, {describe_untested_lines(green)}. {ways}"
