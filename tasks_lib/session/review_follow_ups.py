"""Decides which follow-up tasks the findings of a review node become."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks_lib.session.review_report import Mark, ReviewReport

MAX_FOLLOW_UPS = 5
"""How many follow-up tasks one review makes; the last one has what is left."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One follow-up task: `criteria`, each on one line with its place, none if the report has no such lines.

    `node` is the covered node whose work they are about, `path` the file; both are "" if there is no single one.
    """

    criteria: tuple[str, ...] = ()
    node: str = ""
    path: str = ""


def group_findings(report: ReviewReport, owners: Mapping[str, str]) -> tuple[FollowUp, ...]:
    """The follow-up tasks for the blocking findings and unmet criteria of `report`, one if it has none.

    `owners` maps paths to the one covered node that changed them. Findings are grouped by that node, else by their
    file, in the order of the report.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for one in report.findings:
        if one.is_blocking:
            owner = owners.get(one.path, "")
            groups.setdefault((owner, "" if owner else one.path), []).append(str(one))
    if unmet := [text for text, mark in report.criteria if mark is Mark.NOT_MET]:
        groups.setdefault(("", ""), []).extend(unmet)
    found = [FollowUp(tuple(dict.fromkeys(criteria)), node, path) for (node, path), criteria in groups.items()]
    if len(found) > MAX_FOLLOW_UPS:
        rest = tuple(one for group in found[MAX_FOLLOW_UPS - 1 :] for one in group.criteria)
        found = [*found[: MAX_FOLLOW_UPS - 1], FollowUp(rest)]
    return tuple(found) or (FollowUp(),)
