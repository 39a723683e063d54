"""The schema of `notify` in `coordinator.yaml`: whom a run tells that a person is needed, and about what."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tasks_lib.settings.value_types import Section, Variable, Word

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL = re.compile(r"https?://[^\s/?#]+\S*")


class NotifySettings(Section):
    """Whom a run tells that a person is needed. What is wrong with an address is said without it: it is a secret."""

    command: tuple[Word, ...] = Field(
        default=(), description="A program and its arguments, run without a shell, with the notification as JSON."
    )
    webhook: str = Field(default="", description="An address that gets each notification as JSON, with POST.")
    webhook_env: str = Field(default="", description="The variable that contains the address, instead of `webhook`.")
    env: tuple[Variable, ...] = Field(default=(), description="Names or globs of variables for `command`.")
    on: tuple[Literal["blocked", "person", "limit", "ended"], ...] = Field(
        default=("blocked", "person", "limit", "ended"), description="What is told."
    )

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, url: str) -> str:
        return check_webhook(url)

    @field_validator("webhook_env")
    @classmethod
    def _check_webhook_env(cls, name: str) -> str:
        if name and not _NAME.fullmatch(name):
            raise ValueError("is not the name of a variable; write one such as SLACK_WEBHOOK, without `$`")
        return name

    @model_validator(mode="after")
    def _check_one_webhook(self) -> "NotifySettings":
        if self.webhook and self.webhook_env:
            raise ValueError("has both webhook and webhook_env; remove one of them")
        return self

    @property
    def is_used(self) -> bool:
        return bool(self.on and (self.command or self.webhook or self.webhook_env))


def check_webhook(url: str) -> str:
    """Return `url`; raises ValueError, which does not quote it, unless it is an address or ""."""
    if url and (not _URL.fullmatch(url) or not url.isprintable()):
        raise ValueError("is not an address; write one that begins with https:// or http://")
    return url
