"""Hides a known program as an agent: it is examined before a run, and then run once per turn."""

import asyncio
import math
from collections.abc import Mapping, Sequence

from tasks_lib.agents.backend import Need, ProviderState, Session, SessionSpec
from tasks_lib.agents.command_limits import ProviderLimits
from tasks_lib.agents.memory_guard import guard_memory
from tasks_lib.agents.presets.examination import examine
from tasks_lib.agents.presets.preset import Preset
from tasks_lib.agents.presets.session import PresetSession, ProgramPlan
from tasks_lib.agents.throttle import Throttle
from tasks_lib.errors import InputError
from tasks_lib.session.liveness import SilenceLimits


class PresetBackend:
    """Runs the program of a preset in the worktree, behind `wrapper`, an argument list.

    `environment` is that of the agent. The program is not examined if only the wrapper knows where it is, or if `setup`
    may still install it.
    """

    def __init__(
        self,
        preset: Preset,
        environment: Mapping[str, str],
        limits: SilenceLimits,
        *,
        model: str = "",
        wrapper: Sequence[str] = (),
        limit_seconds: float = math.inf,
        has_setup: bool = False,
    ) -> None:
        provider = ProviderLimits(Throttle(), limit_seconds)
        self._plan: ProgramPlan = ProgramPlan(preset, tuple(wrapper), model, limits, provider)
        self._environment: Mapping[str, str] = environment
        self._has_setup: bool = has_setup

    async def prepare(self, needs: Sequence[Need]) -> None:
        """Check that the program is there, in a version that is known, and logged in. Raises InputError if not."""
        if not needs or self._plan.wrapper:
            return
        fault = await asyncio.to_thread(examine, self._plan.preset, self._environment, may_be_missing=self._has_setup)
        if fault:
            raise InputError([fault])

    async def close(self) -> None:
        """Do nothing: each turn ends what it started."""

    def open(self, spec: SessionSpec) -> Session:
        """Open a session for `spec`; nothing is started before its first prompt."""
        return guard_memory(PresetSession(self._plan, spec), spec)

    def name_model(self, role: str, model: str) -> str:
        """Return the model that is configured, "" for the program's default."""
        return model or self._plan.model

    def find_provider(self, role: str, model: str) -> ProviderState:
        """What is known about the program's provider."""
        return ProviderState(self._plan.provider.throttle.until)
