"""`coordinator demo`: runs scripted agents on a small repository, and shows what to do next."""

import shlex
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from flows.cli.commands.run import run_repository
from flows.cli.display.output import say
from flows.data_directory import data_dir, name_program
from flows.demo.model_decisions import DemoModel
from flows.demo.model_server import ModelServer
from flows.demo.opencode_provider import find_program, write_section
from flows.demo.second_terminal import SecondTerminal
from flows.demo.story import ANSWER, DemoStory, check_story, make_demo
from tasks_lib.errors import InputError
from tasks_lib.git.commits.commit_search import draw_history
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import read_holder
from tasks_lib.process.python_command import python_command
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import VIEW_NAME, RunView, read_view

PLACE = "demo"
DECISION = "docs/rounding-rule.txt"
"""The file with the decision that the blocked node needs."""


def run_demo(
    directory: Path | None,
    sessions: int | None,
    *,
    is_kept: bool,
    console: Console,
    backend: str = "command",
    opencode: Path | None = None,
) -> ExitCode:
    """Create the demo's repository, run it, and explain what happened.

    Returns 0 if everything went as expected, else 1, or 130 after an interruption. Without `directory`, the repository
    is created in the coordinator's data directory and replaces an earlier demo. With the `backend` opencode, sessions
    are real opencode sessions, of the program `opencode` if given. Raises InputError if `directory` is not empty, an
    earlier demo is still running, or opencode is missing.
    """
    program = choose_program(backend, opencode)
    place = directory.resolve() if directory else clear_place(data_dir() / PLACE)
    with ExitStack() as stack:
        model = stack.enter_context(ModelServer(DemoModel())) if program else None
        story = make_demo(place, agent=write_section(program, model.url) if program and model else "")
        # Only after `make_demo`: a directory that it refused belongs to the user.
        if not is_kept:
            stack.callback(shutil.rmtree, place, ignore_errors=True)
        introduce(story, program, console)
        with SecondTerminal(place, story.asked, ANSWER, name_program(), partial(say, console)):
            code = run_repository(place, [], sessions, is_dry_run=False, port=0, console=console)
        if code is ExitCode.INTERRUPTED:
            say(console, f"The demo was interrupted; to start over: {name_program()} demo")
            return code
        wrong = find_wrong(story, code)
        show_history(story, console)
        tell(story, wrong, console, is_kept=is_kept, model=model)
    return ExitCode.BLOCKED if wrong else ExitCode.COMPLETED


def choose_program(backend: str, opencode: Path | None) -> Path | None:
    """Find the opencode to run, None for the command backend; raises InputError if the options conflict."""
    if backend == "opencode":
        return find_program(opencode)
    if opencode is not None:
        raise InputError(["--opencode only works with --backend opencode; add that, or remove --opencode"])
    return None


def introduce(story: DemoStory, program: Path | None, console: Console) -> None:
    """Print what the demo will show."""
    say(console, f"The demo's repository is {story.repository}: a small program with {len(story.paths)} open tasks.")
    if program:
        say(console, f"The sessions are real sessions of {program}, with a scripted model instead of a real one.\n")
    else:
        say(console, "Scripted agents replace real ones; everything else works as it would with real agents.\n")


def clear_place(place: Path) -> Path:
    """Remove the repository of an earlier demo; raises InputError while that is running."""
    if holder := read_holder(place / ".git" / "coordinator"):
        raise InputError([f"the demo in {place} is still in use by {holder}; wait for it, or set another --directory"])
    if place.exists():
        shutil.rmtree(place)
    return place


def find_wrong(story: DemoStory, code: ExitCode) -> list[str]:
    """List what did not go as expected."""
    wrong = check_story(story.repository, story)
    if code is not ExitCode.BLOCKED:
        wrong.insert(0, f"the run ended with {int(code)} instead of 1, although {story.blocked} should be blocked")
    return wrong


def show_history(story: DemoStory, console: Console) -> None:
    """Print the target's history."""
    say(console, f"\ngit log --graph --oneline {story.target}", "bold")
    say(console, draw_history(Repository.open(story.repository).git, branch_ref(story.target)))


def tell(
    story: DemoStory, wrong: list[str], console: Console, *, is_kept: bool, model: ModelServer | None = None
) -> None:
    """Print what happened, and what you would do next."""
    say(console, "")
    if wrong:
        say(console, "The demo did not go as expected:", "bold red")
        for one in wrong:
            say(console, f"  {one}")
        return
    first, second = story.conflicting
    say(console, "What happened:", "bold")
    say(console, f"  {len(story.landed)} nodes landed on {story.target}, each tested as merged first.")
    seen = " (seen coming)" if _was_seen_coming(story) else ""
    say(console, f"  {first} and {second} changed the same lines{seen}; the later one got it back and resolved it.")
    say(console, f"  {story.red} broke a test at first; it got the log back, fixed the test, and landed.")
    say(console, f"  {story.hangs} waited for something that never came; its turn was ended, and the next one worked.")
    say(console, f"  {story.limited} met its provider's limit; the same turn continued afterwards.")
    say(console, f"  {story.returned} was reviewed; it added the test that the reviewer asked for.")
    say(console, f"  {story.told} did not know something that the repository says; a resolver found it.")
    say(console, f"  {story.asked} needed an answer from a person; it came from a second terminal during the run.")
    say(console, f"  {story.review} reviewed the work of other nodes and gave a verdict; it has no branch to merge.")
    _tell_blocked(story, console)
    if is_kept:
        _tell_next(story, model, console)


def _tell_blocked(story: DemoStory, console: Console) -> None:
    view = _read_view(story)
    node = view.nodes.get(story.blocked) if view else None
    reason = (node.reason if node else "").strip().rstrip(".")
    say(console, f"  {story.blocked} is blocked, so the run ended with exit code 1, as intended: {reason}.")
    waits = " and ".join(story.skipped)
    say(console, f"  {waits} {'waits' if len(story.skipped) == 1 else 'wait'} for it; all other nodes continued.")


def _was_seen_coming(story: DemoStory) -> bool:
    """Whether the run noticed the conflict while both sessions were at work."""
    view = _read_view(story)
    return view is not None and any("will conflict" in message for message in view.messages)


def _read_view(story: DemoStory) -> RunView | None:
    return read_view(story.repository / ".git" / "coordinator" / VIEW_NAME)


def _tell_next(story: DemoStory, model: ModelServer | None, console: Console) -> None:
    program = name_program()
    say(console, "\nWhat to do next: decide, resolve what blocks the node, and run again.", "bold")
    say(console, f"  cd {story.repository}")
    say(console, f"  echo 'half even' > {DECISION}")
    say(console, f"  git add {DECISION}")
    say(console, '  git commit -m "Choose the rounding rule"')
    say(console, f'  {program} resolve {story.blocked} "The rule is in {DECISION}."')
    if model:
        # The repository's configuration uses this port, but the model ends with this program.
        serve = shlex.join([*python_command("-m", "flows.demo.model_server"), "--demo", "--port", str(model.port)])
        say(console, f"  {serve} &    (the scripted model; `kill %1` stops it)")
    say(console, f"  {program} run")
    say(console, "\nTo explore:", "bold")
    say(console, f"  {program} up    (Prefect's UI, with this run in its history)")
    say(console, f"  {program} status {story.repository}")
    say(console, "The repository stays until the next demo; nothing else is left behind.")
