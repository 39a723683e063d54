"""Lists the programs that have a preset."""

from collections.abc import Mapping

from tasks_lib.agents.presets.claude import CLAUDE
from tasks_lib.agents.presets.codex import CODEX
from tasks_lib.agents.presets.preset import Preset

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (CLAUDE, CODEX)}
