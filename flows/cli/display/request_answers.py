"""Prints the answers to a request for people or programs, and chooses the exit code."""

from dataclasses import asdict

from rich.console import Console

from flows.cli.display.output import print_json, say
from flows.request_messages import KIND_KEY
from flows.request_sender import SentRequest
from tasks_lib.reporting.run_report import ExitCode


def print_answers(sent: SentRequest, *, as_json: bool, console: Console) -> ExitCode:
    """Print the answers; returns 0 if everything was done, else 1."""
    if as_json:
        print_json({"run": sent.run, KIND_KEY: sent.kind, "answers": [asdict(answer) for answer in sent.answers]})
    else:
        for answer in sent.answers:
            # Not capitalised: a sentence may begin with an id.
            say(console, answer.sentence, None if answer.is_done else "red")
    return ExitCode.COMPLETED if sent.is_done else ExitCode.BLOCKED
