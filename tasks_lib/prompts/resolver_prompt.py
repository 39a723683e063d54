"""Writes the prompt that asks a resolver what blocks a task."""

from tasks_lib.model import Task
from tasks_lib.prompts.agent_prompts import MAX_LOG_CHARS, fence


def write_resolver_prompt(task: Task, text: str, branch: str, base: str, record: str, words: str) -> str:
    """The prompt for a resolver, who gets a separate worktree at the head of the branch; `text` is the task file.

    `record` says what blocks the task, and `words` is everything that its agent said, "" for nothing.
    """
    said = f"\nThe agent's own words:\n\n{fence(words[-MAX_LOG_CHARS:])}\n" if words else ""
    return f"""# What blocks task {task.id}: {task.name}

An agent stopped, because it cannot continue:

{fence(record)}
{said}
Its branch `{branch}` is checked out in the current directory; `git diff {base}...HEAD` shows its work. Its task:

{fence(text, "markdown")}

## What to answer
Find out whether the repository itself answers this: its code, documents, tests, history, and the other task files. Do
not change any files and do not do the task. Do not guess. End with an answer in exactly one of these forms:

    Resolution: context
    Context: what the agent needs to know, and where you found it; it gets one new attempt with these words

    Resolution: scope
    Drop: an acceptance criterion that belongs in a task of its own, word by word; one on each line

    Resolution: dependency
    Depends on: the id of another task file that has to land first

    Resolution: work
    Work: what another agent should do in this repository, so that the task can continue

    Resolution: person
    Person: the question, what you found out, and which answers are possible
"""
