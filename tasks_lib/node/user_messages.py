"""Delivers the user's messages to a node's agent: in its current turn, or with its next prompt."""

from tasks_lib.model import Stage
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.prompts import agent_prompts
from tasks_lib.runtime.user_requests import RequestResult

STAGES_WITHOUT_AGENT = (Stage.QUEUED, Stage.VERIFY, Stage.REVIEW, Stage.RESOLVER, Stage.LANDED)
"""The stages after which no prompt follows if all goes well, so that a message could be lost."""


class UserMessages:
    """Receives the user's messages to the agent of one attempt."""

    def __init__(self, context: AttemptContext) -> None:
        self._context: AttemptContext = context

    async def receive_message(self, text: str) -> RequestResult:
        """Deliver the user's `text` to the agent: in its current turn if possible, otherwise with its next prompt."""
        context = self._context
        if context.record.stage in STAGES_WITHOUT_AGENT:
            why = f"{context.task.id} is at the stage {context.record.stage}, where its agent gets no more prompts"
            return RequestResult(False, f"{why}; stop it with `abort` if its work must not land")
        context.note(notes=(*context.record.notes, f"A person said: {text}"))
        if context.record.stage is Stage.SESSION and context.session and await context.session.say(text):
            return RequestResult(True, f"{context.task.id} received it in its current turn")
        context.note(turn=context.record.turn.add_message(text))
        return RequestResult(True, f"{context.task.id} will get it with its next prompt")


def add_user_messages(context: AttemptContext, prompt: str) -> str:
    """Return `prompt` with the user's messages since the last one, and mark them as delivered."""
    said = context.record.turn.messages
    if said:
        context.note(turn=context.record.turn.without_messages())
    return agent_prompts.add_messages(prompt, said)
