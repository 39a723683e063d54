"""Writes the prompt that asks an agent for the summary of an after-action report."""

from tasks_lib.prompts.agent_prompts import fence
from tasks_lib.text import cut

MAX_REPORT_CHARS = 20_000


def write_summary_prompt(report: str, most_bytes: int) -> str:
    """The prompt for a summary of at most `most_bytes`; `report` is the markdown of the report, which may be cut."""
    return f"""# Summary of a report

This report on a run was generated from its records. Write the summary that will be above it.

{fence(cut(report, MAX_REPORT_CHARS), "markdown")}

## What to answer
Answer with at most six plain sentences, and with nothing else: what the run achieved, what is not done and why, what
cost the most time, and what a person should do next. Say only what the report says. Use no headings, lists, tables or
links; at most {most_bytes} bytes are kept. Do not change any files, and do not run any commands.
"""
