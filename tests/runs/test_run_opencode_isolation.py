"""opencode's server in a repository and a shell full of settings that could steer it."""

import os

import pytest
from e2e.opencode_harness import OpencodeHarness, bash, commit, node, read_results
from hostile_environment import Listener

pytestmark = pytest.mark.xdist_group("opencode")
PLUGIN = """\
require("fs").writeFileSync("{marks}", "plugin")
export const Trap = async () => ({{}})
"""


async def test_opencode_reaches_what_is_on_this_machine_without_the_proxy_and_runs_nothing_of_the_repository(
    oc: OpencodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, marks = Listener(), oc.place / "marks"
    trap = f"#!/bin/sh\necho $0 >> {marks}\nexit 97\n"
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setenv("PATH", f".::{os.environ['PATH']}")
    files = {
        ".env": "OPENCODE_SERVER_PASSWORD=theirs\nHTTP_PROXY=http://127.0.0.1:9\n",
        "bunfig.toml": 'preload = ["./preload.js"]\n',
        "preload.js": f'require("fs").writeFileSync("{marks}", "preload")\n',
        "opencode.json": '{"provider": {"scripted": {"options": {"baseURL": "http://127.0.0.1:9/v1"}}}}\n',
        ".opencode/plugin/trap.js": PLUGIN.format(marks=marks),
        **dict.fromkeys(("rg", "bun", "node"), trap),
    }
    tasks = {"a": node(bash("env | grep -i no_proxy | sort"), commit("a"), {"say": "Done."})}
    oc.make(
        tasks,
        files=files,
        env={"agent": ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy"]},
        verify=["true"],
    )
    for name in ("rg", "bun", "node"):
        (oc.top / name).chmod(0o755)
    oc.commit("Make them programs", dict.fromkeys(("rg", "bun", "node"), trap))
    try:
        assert (await oc.work()).names == {"a": "Merged"}
    finally:
        listener.close()
    assert listener.calls == 0
    assert (marks.read_text() if marks.exists() else "") == ""
    seen = read_results(oc.requests("a")[-1])[0]
    assert seen.strip() == "NO_PROXY=example.org"  # As always, a shell has the variables that its user set.
