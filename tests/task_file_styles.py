"""Writes task files in the many styles that people use: line endings, list styles, comments, quotes, spacing."""

import random
from collections.abc import Sequence

EXTRAS = ("priority: high", "tags: [a, b]", "created: 2024-03-01", "assignee: agent", "x-unknown: {kept: true}")
BODIES = (
    "## Description\nDo it.\n",
    "## Description\nDo it.   \n\n```markdown\n## Notes\nnot a section\n```\n\n## Acceptance Criteria\n- [ ] done\n",
    "# Title\n\n## Description\nDo it.\n\n## Notes\nWritten beforehand.\n\n## References\n- src/base.txt\n",
    "## Description\nDo it.\n\n## Summary\n\n> To be filled on completion\n",
    "",
)


def write_task_file(task_id: str, needed: Sequence[str], status: str, level: str, rng: random.Random) -> bytes:
    """One task file; nearly all differ in style, and all mean the same."""
    lines = [
        f"{rng.choice(('id: ', 'id:   '))}{task_id}",
        _write_name(task_id, rng),
        _write_status(status, rng),
        *_write_needed(needed, rng),
        f"scope: {rng.choice(('single', 'narrow', 'moderate'))}",
        f"level: {level}{rng.choice(('', '   # who works it'))}",
        *rng.sample(EXTRAS, k=rng.randint(0, 2)),
    ]
    if rng.random() < 0.5:
        lines.insert(rng.randint(1, 2), "# A comment of its own.")
    front, body = "\n".join(lines), rng.choice(BODIES)
    text = f"---\n{front}\n---\n{rng.choice(('', chr(10)))}{body}"
    if rng.random() < 0.2:
        text = text.rstrip("\n")
    if rng.random() < 0.25:
        text = text.replace("\n", "\r\n")
    return text.encode()


def _write_name(task_id: str, rng: random.Random) -> str:
    plain = f"Do {task_id}"
    return rng.choice(
        (
            f"name: {plain}",
            f'name: "{plain}: now"',
            f"name: '{plain} – über'",
            f"title: {plain}",
            f"name:   {plain}  # why",
        )
    )


def _write_status(status: str, rng: random.Random) -> str:
    return rng.choice(
        (f"status: {status}", f"status:    {status}   # by hand", f'status: "{status}"', f"status: '{status}'  ")
    )


def _write_needed(needed: Sequence[str], rng: random.Random) -> list[str]:
    if not needed:
        return rng.choice(([], ["depends_on: []"], ["depends_on:"], ["depends_on: []   # nothing yet"]))
    key = rng.choice(("depends_on", "depends_on", "depends_on", "dependsOn"))
    quoted = [rng.choice((item, f'"{item}"', f"'{item}'")) for item in needed]
    return rng.choice(
        (
            [f"{key}: [{', '.join(quoted)}]"],
            [f"{key}:   [ {' , '.join(quoted)} ]   # in any order"],
            [f"{key}:", *(f"  - {item}" for item in quoted)],
            [f"{key}:  # what it needs", *(f"- {item}   # why" for item in quoted)],
            [f"{key}: [", *(f"  {item}," for item in quoted), "]"],
        )
    )
