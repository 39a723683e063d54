"""Sends requests to a repository's current run from another process, and waits for the answers."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

import httpx

from flows.prefect_api import ask, require_accepted_login
from flows.request_messages import (
    ANSWER_SECONDS,
    Answer,
    RequestKind,
    UserRequest,
    answers_key,
    new_key,
    read_answers,
    write_request,
)
from tasks_lib.errors import InputError, SystemFailure
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import is_starting, read_holder
from tasks_lib.runtime.status_board import VIEW_NAME, RunView, read_view

POLL_SECONDS = 0.1
START_SECONDS = 10.0
"""How long a starting run may take to record where it can be reached."""
REQUEST_SECONDS = 10.0


class NoRunError(InputError):
    """No run is in progress in the repository."""


class NotReceived(SystemFailure):
    """The run ended before it received the request, which was withdrawn."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request of `kind` that was answered: by the flow run `run`, or without one ("") by this process."""

    kind: RequestKind
    run: str
    answers: Sequence[Answer]

    @property
    def is_done(self) -> bool:
        return all(answer.is_done for answer in self.answers)


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A run in progress: `flow_run` is its id in Prefect, `api` the address of the API that it reads requests from."""

    repository: Repository
    flow_run: str
    api: str
    view: RunView

    def is_alive(self) -> bool:
        holder = read_holder(self.repository.state_dir)
        return holder is not None and holder.run == self.flow_run


def find_running(path: Path) -> RunningRun:
    """Find the current run of the repository that contains `path`; waits for one that is starting.

    Raises NoRunError if there is none, SystemFailure if it does not record where it can be reached.
    """
    repository = Repository.open(path)
    deadline = time.monotonic() + START_SECONDS
    while True:
        starts = is_starting(repository.state_dir)  # Read first: a run tells of its start until it holds the lock.
        holder = read_holder(repository.state_dir)
        if holder is None and not starts:
            raise NoRunError([f"{repository.top}: no run is in progress here; `coordinator run` starts one"])
        view = read_view(repository.state_dir / VIEW_NAME)
        if holder and view and view.api and view.run == holder.run:
            return RunningRun(repository, view.run, view.api, view)
        if time.monotonic() > deadline:
            who = holder or "the run that is starting"
            raise SystemFailure(f"{repository.top}: {who} cannot be reached yet; try again later")
        time.sleep(POLL_SECONDS)


def send_request(path: Path, request: UserRequest) -> SentRequest:
    """Send `request` to the current run of the repository that contains `path`, and return the answers.

    Raises NoRunError if no run is in progress, SystemFailure if there is no answer: NotReceived if the run ended first.
    """
    run = find_running(path)
    with ask(run.api, REQUEST_SECONDS) as client:
        return SentRequest(request.kind, run.flow_run, RequestSender(run, client).send(request))


class RequestSender:
    """Sends requests to one run through Prefect, and receives the answers."""

    def __init__(self, run: RunningRun, client: httpx.Client) -> None:
        self._run = run
        self._client = client
        self._inputs = f"flow_runs/{run.flow_run}/input"

    def send(self, request: UserRequest) -> Sequence[Answer]:
        """Send `request` and return the answers. On giving up, it is withdrawn so that it is not read late.

        Raises SystemFailure, saying whether the request was read, if there is no answer in time.
        """
        key = new_key()
        dated = replace(request, until=time.time() + ANSWER_SECONDS)
        self._ask("POST", self._inputs, {"key": key, "value": write_request(dated), "sender": "coordinator"})
        try:
            answers = self._await_answers(answers_key(key))
        except BaseException:
            with suppress(SystemFailure, InputError):
                self._withdraw(key)
            raise
        if answers is not None:
            return answers
        raise self._explain_silence(is_withdrawn=self._withdraw(key))

    def _await_answers(self, key: str) -> Sequence[Answer] | None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            # Check this first: a run that has ended has already answered, if it ever does.
            is_alive = self._run.is_alive()
            answer = self._ask("GET", f"{self._inputs}/{key}")
            if answer is not None:
                self._ask("DELETE", f"{self._inputs}/{key}")
                return read_answers(answer.text)
            if not is_alive:
                return None
            time.sleep(POLL_SECONDS)
        return None

    def _withdraw(self, key: str) -> bool:
        """Withdraw the request; returns whether it was still there, and so was not read."""
        return self._ask("DELETE", f"{self._inputs}/{key}") is not None

    def _explain_silence(self, *, is_withdrawn: bool) -> SystemFailure:
        heard = "the request was not read and was withdrawn" if is_withdrawn else "it was read, but not answered"
        if not self._run.is_alive():
            kind = NotReceived if is_withdrawn else SystemFailure
            return kind(f"the run ended in the meantime: {heard}. `coordinator status` shows how it ended")
        return SystemFailure(
            f"the run did not answer within {ANSWER_SECONDS:.0f} seconds: {heard}. See `coordinator status`"
        )

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response | None:
        """Return the answer, or None for 404. Raises InputError if the login is rejected, else SystemFailure."""
        try:
            answer = self._client.request(method, path, json=body) if body else self._client.request(method, path)
        except httpx.HTTPError as error:
            raise SystemFailure(f"the Prefect server at {self._run.api} does not answer: {error}") from error
        match answer.status_code:
            case HTTPStatus.NOT_FOUND if method != "POST":
                return None
            case HTTPStatus.NOT_FOUND:
                raise SystemFailure(
                    "Prefect no longer has this run, so it cannot be reached. It continues; to stop it: Ctrl-C in its "
                    f"terminal, or kill -TERM {self._run.view.pid} on {self._run.view.host}"
                )
            case _ if answer.is_success:
                return answer
            case _:
                require_accepted_login(self._run.api, answer.status_code)
                said = f"{answer.status_code} to {method} {path}"
                raise SystemFailure(f"the Prefect server at {self._run.api} answered {said}")
