"""Drives opencode sessions with the minimum that works (create, prompt, wait), as the floor of their cost."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

BOOTS = 2
"""How many sessions start at a time, as in the coordinator."""
USER = "opencode"


async def drive(url: str, password: str, role: str, model: str, prompts: Mapping[Path, str]) -> None:
    """Prompt one session in each directory and return when all are idle, without checking or recording anything."""
    provider, _, name = model.partition("/")
    async with httpx.AsyncClient(base_url=url, auth=(USER, password), timeout=None) as client:
        driver = _Driver(client, {"agent": role, "model": {"providerID": provider, "modelID": name}})
        listening = asyncio.create_task(driver.listen())
        await driver.is_listening.wait()
        await asyncio.gather(*(driver.prompt(place, text) for place, text in prompts.items()))
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


class _Driver:
    def __init__(self, client: httpx.AsyncClient, body: Mapping[str, object]) -> None:
        self._client = client
        self._body = body
        self._boots = asyncio.Semaphore(BOOTS)
        self._begun: dict[str, asyncio.Event] = {}
        self._idle: dict[str, asyncio.Event] = {}
        self.is_listening = asyncio.Event()

    async def prompt(self, place: Path, text: str) -> None:
        async with self._boots:
            made = await self._client.post("/session", params={"directory": str(place)}, json={"title": place.name})
            session = made.json()["id"]
            begun, idle = self._begun[session], self._idle[session] = asyncio.Event(), asyncio.Event()
            parts = [{"type": "text", "text": text}]
            await self._client.post(f"/session/{session}/prompt_async", json={**self._body, "parts": parts})
            await begun.wait()
        await idle.wait()

    async def listen(self) -> None:
        async with self._client.stream("GET", "/global/event") as answer:
            self.is_listening.set()
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    self._hear(json.loads(line[len("data:") :]).get("payload") or {})

    def _hear(self, payload: Mapping[str, Any]) -> None:
        about: Mapping[str, Any] = payload.get("properties") or {}
        session = str(about.get("sessionID"))
        is_step = payload.get("type") == "message.part.updated" and about.get("part", {}).get("type") == "step-start"
        if is_step and session in self._begun:
            self._begun[session].set()
        if payload.get("type") == "session.idle" and session in self._idle:
            self._idle[session].set()
