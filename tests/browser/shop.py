"""The repository that the browser tests work on: a small shop, planned as a user would, with a scripted agent."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from generated_graphs import AGENT, CONFIG, run_git

GATE = "gate"
TASKS = {
    "cart": ("Add a cart", ""),
    "catalog": ("List the products", ""),
    "pay": ("Take payments", "cart"),
    "mail": ("Send a mail for each order", "pay"),
    "search": ("Search the products", "catalog"),
}


@dataclass(frozen=True, slots=True)
class Shop:
    """A repository `top`; `plan` says what the agent of each task does."""

    top: Path
    plan: dict[str, dict[str, Any]]

    def write_plan(self) -> None:
        plan = {"journal": str(self.journal), "nodes": self.plan}
        fresh = self.plan_path.with_suffix(".new")
        fresh.write_text(json.dumps(plan), encoding="utf-8")
        fresh.replace(self.plan_path)

    @property
    def plan_path(self) -> Path:
        return self.top.parent / f"{self.top.name}-plan.json"

    @property
    def journal(self) -> Path:
        return self.top.parent / f"{self.top.name}-journal.jsonl"

    def open_gate(self) -> None:
        """Let the sessions that wait at the gate continue, now and later."""
        line = json.dumps({"id": GATE, "event": "open", "time": 0.0})
        descriptor = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)

    def read_subjects(self) -> list[str]:
        """The subjects of the commits on main, without those of the branches, newest first."""
        return run_git(self.top, "log", "--first-parent", "--format=%s", "main").splitlines()


def share_shop(shop: Shop) -> Path:
    """Let both first sessions wait at the gate, send all sessions to other machines, and return the shop's remote."""
    shop.plan["catalog"] |= {"meet": GATE, "meet_seconds": 600}
    shop.plan["pay"] = {"write": {"pay.txt": "pay\n"}}
    shop.write_plan()
    remote = shop.top.with_suffix(".git")
    with (shop.top / "coordinator.yaml").open("a", encoding="utf-8") as settings:
        settings.write("spokes: {remote: origin, prefer: only}\n")
    run_git(shop.top, "commit", "-q", "-a", "-m", "Run sessions on other machines")
    run_git(shop.top, "clone", "-q", "--bare", ".", str(remote))
    run_git(shop.top, "remote", "add", "origin", str(remote))
    run_git(shop.top, "fetch", "-q", "origin")
    return remote


def make_shop(top: Path) -> Shop:
    """Make the shop: `cart` waits at the gate, and `pay` is blocked until there is a `decision.txt`."""
    plan: dict[str, dict[str, Any]] = {name: {"write": {f"{name}.txt": f"{name}\n"}} for name in TASKS}
    plan["cart"] |= {"meet": GATE, "meet_seconds": 600}
    plan["pay"] |= {"block_with": "notify", "block_until": "decision.txt"}
    shop = Shop(top, plan)
    (top / "tasks").mkdir(parents=True)
    command = [sys.executable, "-S", "-E", "-s", "-B", str(AGENT), str(shop.plan_path)]
    settings = {
        "target": "main",
        "agent": {"backend": "command", "command": command},
        "verify": ["test -d tasks"],
        "watch": {"stop_seconds": 2},
    }
    (top / "coordinator.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    for name, (title, needed) in TASKS.items():
        front = f"---\nid: {name}\nname: {title}\nstatus: pending\ndepends_on: [{needed}]\n---\n"
        (top / "tasks" / f"{name}.md").write_text(f"{front}## Description\n{title}.\n", encoding="utf-8")
    shop.write_plan()
    run_git(top, "init", "-q", "-b", "main")
    with (top / ".git" / "config").open("a", encoding="utf-8") as file:
        file.write(CONFIG)
    run_git(top, "add", "-A")
    run_git(top, "commit", "-q", "-m", "Plan the shop")
    return shop
