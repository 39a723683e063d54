"""Defines the possible results of landing finished work."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks_lib.git.commits.merge_tree import Conflict
from tasks_lib.model import Waiting
from tasks_lib.prompts import agent_prompts
from tasks_lib.prompts.agent_prompts import list_faults
from tasks_lib.prompts.conflict_prompt import ConflictFacts, list_commits, list_paths, write_conflict_prompt
from tasks_lib.prompts.templates import Templates
from tasks_lib.runtime.setup_and_verify import Green, Red


@dataclass(frozen=True, slots=True)
class Landed:
    """The work has landed: the head moved to `commit`."""

    commit: str


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The session that did the work has to fix it: `prompt` is for its next turn, `reason` one sentence.

    `facts` are for those who do not see that turn: a person if the node is blocked, and the session that resumes the
    work after a kill or a failed attempt; "" for the prompt. `conflicted` are the branch's commits whose conflict is
    resolved next; with `is_about_drops` that was done, and changes are missing: of a person's work, `missing`
    identifies those. `paths` are in conflict.
    """

    reason: str
    prompt: str
    is_review: bool = False
    facts: str = ""
    conflicted: tuple[str, ...] = ()
    is_about_drops: bool = False
    paths: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def cause(self) -> str:
        """In a word, why: review, drops, conflict, or the verification of the merge and of the tasks that it adds."""
        if self.is_review:
            return "review"
        if self.is_about_drops:
            return "drops"
        return "conflict" if self.conflicted else "verify"


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing can land, through no fault of this work; `is_broken` means that `verify` cannot run or tests nothing."""

    reason: str
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class CompletedElsewhere:
    """Somebody else has completed the node meanwhile, at or before `commit`, so this work is not needed."""

    commit: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The work may land: its merge onto the present head, `commit`, has the result `green`; the head did not move."""

    commit: str
    green: Green


LandingResult = Landed | GivenBack | Held | CompletedElsewhere | Waiting
"""Waiting: nothing more may land in this run."""


def give_back_conflict(
    conflict: Conflict, head: str, branch: str, templates: Templates, facts: ConflictFacts
) -> GivenBack:
    """Ask the session that did the work, the commit `branch`, to resolve `conflict` with the commit `head`."""
    if conflict.clashes and not conflict.paths:
        return give_back_faults(conflict.clashes, head)
    if not conflict.paths:
        said = " ".join(conflict.messages)
        return GivenBack(f"does not merge onto the head: {said}", said)
    prompt = write_conflict_prompt(
        conflict.paths, conflict.head_commits, conflict.branch_commits, head, templates, facts
    )
    if conflict.clashes:
        prompt += f"\nAlso fix these faults in the task files of your branch:\n{list_faults(conflict.clashes)}\n"
    return GivenBack(
        f"conflicts with the head in {', '.join(conflict.paths[:3])}",
        prompt,
        facts=describe_conflict(conflict, facts),
        conflicted=(branch,),
        paths=tuple(conflict.paths),
    )


def describe_conflict(conflict: Conflict, facts: ConflictFacts) -> str:
    """`conflict` in short: the paths, the commits of both sides, and the task files that cannot be used."""
    parts = [
        f"Conflicting paths:\n{list_paths(conflict.paths, facts)}",
        f"Commits that landed:\n{list_commits(conflict.head_commits)}",
        f"Commits of the branch:\n{list_commits(conflict.branch_commits)}",
        *([f"Faults in the task files of the branch:\n{list_faults(conflict.clashes)}"] if conflict.clashes else []),
    ]
    return "\n\n".join(parts)


def give_back_faults(faults: Sequence[str], head: str) -> GivenBack:
    """Ask the session that did the work to fix `faults` in the task files that it adds to those at `head`."""
    reason = f"its task files do not form a valid graph: {faults[0]}"
    return GivenBack(reason, agent_prompts.write_faults_prompt(faults, head), facts=list_faults(faults))


def give_back_red(red: Red, head: str, templates: Templates) -> GivenBack:
    """Ask the session that did the work to fix what `verify` reports on its merge onto the commit `head`."""
    prompt = agent_prompts.write_red_prompt(red.line, red.how, red.tail, red.log, head, templates)
    facts = f"The end of its output:\n{agent_prompts.quote_end(red.tail)}\nThe full log is {red.log}."
    return GivenBack(f"verify is red as merged: `{red.line}` {red.how}", prompt, facts=facts)
