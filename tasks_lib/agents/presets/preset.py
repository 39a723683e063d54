"""Describes a program that the backend `command` knows: how a turn is started, and what its events mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks_lib.agents.json_values import Json
from tasks_lib.session.spending import NOTHING, Spent

MAX_SHOWN_CHARS = 2000
"""How much of a tool's output the log keeps."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the events of one turn have said so far; texts are "" for none.

    `conversation` is the program's own id of it. `answer` is what the agent said last, `activity` what it does.
    `spent` is that of this turn; `total_tokens` that of the whole conversation, where the program counts that. `error`
    says what broke, `refusal` why no session can succeed, `limit` that the provider limits requests, until
    `limit_until` (seconds since the epoch, 0 if unknown). `retrying` is set while the program itself asks the provider
    again after a limit.
    `denied` are the tools whose use was not permitted. `counted` are the model's answers whose tokens are in `spent`.
    """

    conversation: str = ""
    answer: str = ""
    activity: str = ""
    spent: Spent = NOTHING
    total_tokens: int = 0
    error: str = ""
    refusal: str = ""
    limit: str = ""
    limit_until: float = 0.0
    retrying: str = ""
    denied: tuple[str, ...] = ()
    counted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Launch:
    """A turn to be started in `cwd`, with the variables `environment`.

    `session` is coordinator's name of the session, a UUID; `conversation` the program's own, "" if it has none yet.
    `model` is "" for the program's default. `git_directories` are those that a commit in a linked worktree writes to.
    """

    session: str
    conversation: str
    model: str
    cwd: Path
    environment: Mapping[str, str]
    git_directories: tuple[Path, ...] = ()
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A known program.

    `tried` is the version that the tests drive, and `oldest` the first one that may work; both belong to one major
    version. `package` is its name on npm. `passed_on` are variables of the user without secrets that it reads, and
    `settings` those that it always gets. `build` returns the argument list of a turn, which reads its prompt from
    standard input; `choose_conversation` the id of the conversation, if that is known before the turn. `read` takes an
    event: it returns what is known after it, and lines for the log. `attach` returns the command line that opens a
    conversation. `login` are the arguments with which the program says whether it is logged in, `keys` the variables
    that hold a key, and `has_own_provider` whether the user's configuration names a provider, which needs neither.
    `help_words` are the arguments with which it lists its options.
    """

    name: str
    title: str
    package: str
    tried: str
    oldest: str
    keys: tuple[str, ...]
    login: tuple[str, ...]
    login_advice: str
    build: Callable[[Launch], list[str]]
    read: Callable[[Heard, Json], tuple[Heard, str]]
    choose_conversation: Callable[[Launch], str]
    attach: Callable[[str], list[str]]
    help_words: tuple[str, ...] = ("--help",)
    passed_on: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    has_own_provider: Callable[[Mapping[str, str]], bool] = lambda _: False


def strip_provider(model: str) -> str:
    """The program's name of `model`, which task files write as `provider/model`."""
    return model.partition("/")[2] or model


def shorten(text: str) -> str:
    """`text` for the log: without its end if it is long."""
    text = text.strip()
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}\n[{len(text) - MAX_SHOWN_CHARS} more]"


def first_line(text: str, most: int = 200) -> str:
    """The first line of `text`, cut to `most` characters."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= most else f"{line[:most]}…"
