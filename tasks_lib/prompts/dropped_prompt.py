"""Describes changes that the resolution of a conflict dropped, to the session that resolved it and to a person."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks_lib.naming import show
from tasks_lib.prompts.agent_prompts import fence
from tasks_lib.prompts.conflict_prompt import DROPPED_FORM
from tasks_lib.text import cut, fold, tell_rest

MAX_CHANGES = 12
MAX_CHANGE_CHARS = 1_500
MAX_REASON_CHARS = 300
_REASON = re.compile(r"^[\s>*_`-]*Dropped[*_`]*:\s*(\S.*?)\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LostChange:
    """A change that is missing: where it was in its side's file, from 1 (0 for a binary file), and its text.

    `owner` is the task or the commit on the head that made it, "" if the branch did.
    """

    path: str
    first: int
    last: int
    owner: str
    removed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def place(self) -> str:
        lines = f"{self.first}" if self.first >= self.last else f"{self.first}-{self.last}"
        return f"{show(self.path)}:{lines}" if self.first else show(self.path)


def describe_drop(lost: Sequence[LostChange]) -> str:
    """What is missing in one sentence, for messages and notes."""
    named = ", ".join(f"{one.place} ({one.owner or 'its own'})" for one in lost[:3])
    return f"resolving a conflict dropped {_count(lost)}: {named}{tell_rest(len(lost), 3)}"


def list_lost(lost: Sequence[LostChange], branch: str) -> str:
    """Each change with its text; `branch` is how to call the branch. Bounded."""
    parts: list[str] = []
    for number, one in enumerate(lost[:MAX_CHANGES], 1):
        lines = [*(f"-{line}" for line in one.removed), *(f"+{line}" for line in one.added)]
        text = fence(cut("\n".join(lines), MAX_CHANGE_CHARS), "diff")
        parts.append(f"{number}. {one.place}, by {one.owner or branch}:\n{text}")
    return "\n\n".join(parts) + tell_rest(len(lost), MAX_CHANGES, "\n\n… and ")


def write_dropped_prompt(lost: Sequence[LostChange], target: str) -> str:
    """The prompt for a session whose resolution dropped changes; `target` is the head's commit."""
    return f"""Your branch merges with the head, but {_count(lost)} of the two sides is no longer there:

{list_lost(lost, "your branch")}

Put back what each of these did, in whatever form and place fits the rest, run the tests, and commit. `git show
{target}:<path>` shows a file as it is on the head (also in $COORDINATOR_TARGET).

If one of them has to go, leave it out and say so in your report, in one line for each:
    {DROPPED_FORM}
A person decides about what is still missing after this turn.
"""


def describe_for_person(lost: Sequence[LostChange], reasons: Sequence[str], branch: str, base: str) -> str:
    """What a person has to know to decide: each change, and the agent's `reasons`.

    `branch` and `base` are full refs.
    """
    said = "\n".join(f"- {one}" for one in reasons) or "- (none)"
    return f"""Missing after the session was told of it once:

{list_lost(lost, "the branch")}

The agent's reasons:
{said}

Review the result: `git diff {base}...{branch}`. Completing the resolve task approves that exactly these changes are
missing. To have them back, put them back on the branch first."""


def find_reasons(texts: Sequence[str]) -> tuple[str, ...]:
    """The lines `Dropped: <path>: <why>` in reports and commit messages, as `<path>: <why>`."""
    found = (_REASON.match(line) for text in texts for line in text.splitlines())
    said = [cut(fold(one[1].strip("`*_")), MAX_REASON_CHARS) for one in found if one]
    return tuple(dict.fromkeys(one for one in said if not one.startswith("<")))[:MAX_CHANGES]


def _count(lost: Sequence[LostChange]) -> str:
    return "1 change" if len(lost) == 1 else f"{len(lost)} changes"
