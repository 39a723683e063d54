"""Decides what a landing, a blocker or its resolution writes into a task file; no other lines change."""

import re
from collections.abc import Sequence

from tasks_lib.git.commits.commit_messages import make_line
from tasks_lib.model import Status
from tasks_lib.taskfile.parsing import add_dependency, adopt_sections, get_section, set_section, set_status
from tasks_lib.text import drop_controls

NOTES, SUMMARY = "Notes", "Summary"
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def complete_text(head: str, branch: str | None, base: str | None, summary: str) -> str:
    """Return the task file `head` marked as completed, with what the branch wrote into Notes and Summary.

    `branch` and `base` are the same file on the branch and at the merge base (None if it does not exist there).
    `summary` is used if the Summary was not filled in.
    """
    text = head
    if branch is not None:
        for heading in (NOTES, SUMMARY):
            text = _adopt(text, branch, base, heading)
    if summary.strip() and _is_unfilled(get_section(text, SUMMARY)):
        text = set_section(text, SUMMARY, drop_controls(summary).strip())
    return set_status(text, Status.COMPLETED)


def block_text(head: str, reason: str, notes: str, resolve_id: str, details: Sequence[str] = ()) -> str:
    """Return the task file `head` marked as blocked for `reason`.

    `notes`, the reason and the lines `details` are appended to its Notes, and `resolve_id` ("" for none) is added to
    its dependencies.
    """
    body = (get_section(head, NOTES) or "").strip()
    said = "\n".join((f"Blocked: {make_line(reason)}", *map(make_line, details)))
    for addition in (drop_controls(notes).strip(), said):
        if addition and _flatten(addition) not in _flatten(body):
            body = f"{body}\n\n{addition}" if body else addition
    text = set_section(head, NOTES, body) if body else head
    text = set_status(text, Status.BLOCKED)
    return add_dependency(text, resolve_id) if resolve_id else text


def note_text(head: str, note: str) -> str:
    """Return the task file `head` with `note` at the end of its Notes, and pending."""
    body = (get_section(head, NOTES) or "").strip()
    said = drop_controls(note).strip()
    return set_status(set_section(head, NOTES, f"{body}\n\n{said}".strip()), Status.PENDING)


def resolve_text(head: str, guidance: str) -> str:
    """Return the resolve file `head` marked as completed, with `guidance` at the end of its Summary."""
    said = drop_controls(guidance).strip()
    body = get_section(head, SUMMARY)
    if said and _is_unfilled(body):
        head = set_section(head, SUMMARY, said)
    elif said and _flatten(said) not in _flatten(body or ""):
        head = set_section(head, SUMMARY, f"{(body or '').strip()}\n\n{said}")
    return set_status(head, Status.COMPLETED)


def read_summary(text: str | None) -> str:
    """Return the Summary of a task file, or "" if it was not filled in."""
    body = get_section(text, SUMMARY) if text is not None else None
    return "" if body is None or _is_unfilled(body) else body.strip()


def _adopt(text: str, branch: str, base: str | None, heading: str) -> str:
    """Return `text` with the section from the branch; if the head changed it too since `base`, both are kept."""
    before = get_section(base, heading) if base is not None else None
    ours, theirs = get_section(text, heading), get_section(branch, heading)
    if theirs is None or _is_same(theirs, before) or _is_same(theirs, ours):
        return text
    if _is_unfilled(ours) or _is_same(ours, before) or _flatten(ours or "") in _flatten(theirs):
        return adopt_sections(text, branch, (heading,))
    if _is_unfilled(theirs) or _flatten(theirs) in _flatten(ours or ""):
        return text
    return set_section(text, heading, f"{(ours or '').strip()}\n\n{theirs.strip()}")


def _flatten(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _is_same(one: str | None, other: str | None) -> bool:
    return _flatten(one or "") == _flatten(other or "")


def _is_unfilled(body: str | None) -> bool:
    """Whether a section contains only comments and the quoted placeholder (`> To be filled …`) of templates."""
    lines = _COMMENT.sub("", body or "").splitlines()
    return all(not line.strip() or line.lstrip().startswith(">") for line in lines)
