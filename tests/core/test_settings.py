"""Settings in `coordinator.yaml`, variables that override them, and the message for every fault."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks_lib.errors import InputError
from tasks_lib.model import Risk, Scope, Task
from tasks_lib.settings.schema import (
    Settings,
    digest_verify,
    read_settings,
    settings_schema,
)

PATH = "coordinator.yaml"


def faults(text: str, **environment: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_settings(text, PATH, environment)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("text", ["", "# nothing\n", "verify:\nretry:\nreview:\n  when:\n", "{}"])
def test_no_input_gives_every_default(text: str) -> None:
    read = read_settings(text, PATH, {})
    assert read == Settings()
    assert (read.target, read.tasks_dir, read.max_sessions, read.branch_prefix, read.verify) == ("", "", 4, "feat/", ())
    assert (read.review.when, read.review.max_rounds, read.retry.attempts, read.land.give_backs) == ("auto", 2, 3, 3)
    assert (read.watch.turn_seconds, read.watch.setup_seconds, read.watch.verify_seconds) == (7200, 1800, 3600)
    assert (read.watch.stop_seconds, read.watch.nudges) == (10, 2)
    assert (read.retry.delay_seconds, read.retry.max_delay_seconds) == (10, 300)


def test_every_key_is_read() -> None:
    text = """
target: main
tasks_dir: ./work/tasks/
max_sessions: 8
agent: {backend: command, command: [run, --as, "{role}", "{prompt_file}", "{session}", "${HOME}", "{}"]}
roles: {review: strict-reviewer, Docs: writer}
branch_prefix: work/
setup: [npm ci]
setup_key: [package-lock.json]
keep: [node_modules/]
copy: [.env]
verify:
  - make test
wrapper: [podman, run]
env: {setup: [NPM_TOKEN], agent: [ANTHROPIC_*], verify: ["CI_?"]}
review: {when: never, max_rounds: 1}
watch: {turn_seconds: 0.5, nudges: 0}
retry: {attempts: 1, delay_seconds: 0, max_delay_seconds: 0}
land: {mode: local, give_backs: 0}
"""
    read = read_settings(text, PATH, {})
    assert (read.tasks_dir, read.keep, read.copy_paths) == ("work/tasks", ("node_modules",), (".env",))
    assert (read.env.setup, read.env.agent, read.env.verify) == (("NPM_TOKEN",), ("ANTHROPIC_*",), ("CI_?",))
    assert (read.watch.turn_seconds, read.retry.delay_seconds, read.wrapper) == (0.5, 0, ("podman", "run"))
    assert read.role_for("review") == "strict-reviewer"
    assert read.role_for("docs") == "writer"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\nmax_sessions: four", '2: max_sessions is "four"; write a whole number from 1 to 256'),
        ("max_sessions: true", "1: max_sessions is true; write a whole number from 1 to 256"),
        ("max_sessions: 257", "1: max_sessions is 257; write a whole number from 1 to 256"),
        ("retry:\n  attempts: 1.0", "2: retry.attempts is 1.0; write a whole number from 1 to 10"),
        ("watch: {turn_seconds: 0}", "1: watch.turn_seconds is 0; write a number above 0"),
        ("watch:\n  stop_seconds: 1:30", '2: watch.stop_seconds is "1:30"; write a number above 0'),
        ("watch: {nudges: 3}", "1: watch.nudges is 3; write a whole number from 0 to 2"),
        ("retry: {delay_seconds: -1}", "1: retry.delay_seconds is -1; write a number, 0 or more"),
        ("retry: {delay_seconds: 400}", "1: retry max_delay_seconds (300) is below delay_seconds (400); raise the first or lower the second"),
        ("verify: make test", "1: verify is not a list; write `verify: [make test]`"),
        ("verify: tox, mypy", "1: verify is not a list; write `verify: [tox, mypy]`"),
        ("verify: 'echo a, b'", "1: verify is not a list; write `verify: ['echo a, b']`"),
        ("verify: {a: b}", "1: verify is not a list; write `verify: [first, second]`"),
        ("setup:\n- a\n- 1", '3: setup item 2 is 1, not text; quote it: "1"'),
        ("setup:\n- a\n-", "3: setup item 2 is empty, not text; remove the item, or fill it in"),
        ("setup: ['  ']", "1: setup item 1 is an empty line; remove it"),
        ('wrapper: ["a\\0"]', "1: wrapper item 1 contains a NUL character; remove it"),
        ("retry: 5", "1: retry is 5; write its keys below it, indented, one per line"),
        ("roles: [a]", "1: roles is a list; write its keys below it, indented, one per line"),
        ("\n\nreviwe: {}", '3: "reviwe" is not a known key. Did you mean "review"?'),
        ("retry:\n  atempts: 2", '2: "atempts" is not a known key of retry. Did you mean "attempts"?'),
        ("land: {zzz: 1}", '1: "zzz" is not a known key of land; the keys are ask, fetch_seconds, give_backs, max_file_mb, mode, remote'),
        ("review: {when: nevr}", '1: review.when is "nevr"; use auto, always or never. Did you mean "never"?'),
        ("agent: {backend: opncode}", '1: agent.backend is "opncode"; use opencode or command. Did you mean "opencode"?'),
        ("agent:\n  model: a/b", "2: agent.model is for opencode only, but agent.backend is command; set `backend: opencode`, or remove this key"),
        ("agent: {backend: opencode, command: [opencode, '{session}', '{x}']}", "1: agent.command contains {session}, {x}; one opencode server is started for all sessions, so remove it"),
        ("agent: {backend: opencode}\nwrapper: [box, '{role}', '${HOME}']", "2: wrapper contains {role}; one opencode server is started for all sessions, so remove it"),
        ("agent: {backend: opencode, model: sonnet}", '1: agent.model is "sonnet"; write it as provider/model, as `opencode models` lists it'),
        ("agent:\n  backend: opencode\n  models:\n    code-reviewer: a b/c", '4: agent.models.code-reviewer is "a b/c"; write it as provider/model, as `opencode models` lists it'),
        ("agent:\n  backend: opencode\n  models:\n    code reviewer: b/c", '4: agent.models.code reviewer is "code reviewer"; write the name of a role, e.g. implementation-specialist'),
        ("agent: {backend: opencode, keys: ['P*']}", '1: agent.keys item 1 is "P*", which can match PREFECT_*; those are never passed on, so use a narrower pattern'),
        ("agent: {backend: opencode, keys: [A=b]}", '1: agent.keys item 1 is "A=b"; write the name of a variable or a glob, e.g. `NPM_*`, without a value'),
        ("agent: {backend: opencode, keys: [A_KEY]}\nenv: {agent: ['A_*']}", "2: env agent passes \"A_*\" on to the agent's shell, but agent.keys keeps \"A_KEY\" from it; remove one of them"),
        ("agent:\n  backend: opencode\n  config:\n    provider: {}\n    permission: {}", "5: agent.config.permission cannot be set here; write it as agent.permission"),
        ("agent: {backend: opencode, config: {a: [1.0e+400]}}", "1: agent.config contains a number that is too large for JSON; change it, or quote it"),
        ("agent:\n  backend: opencode\n  permission:\n    bash: alow", '4: agent.permission.bash is "alow"; use allow, ask or deny. Did you mean "allow"?'),
        ("agent: {backend: opencode, permission: {bash: {'rm *': no}}}", '1: agent.permission.bash for "rm *" is not a word; use allow, ask or deny'),
        ("agent: {backend: opencode, url: 'localhost:4096'}", '1: agent.url is "localhost:4096"; write an address, e.g. http://127.0.0.1:4096, without a password'),
        ("agent: {backend: opencode, url: 'http://u:p@h'}", '1: agent.url is "http://u:p@h"; write an address, e.g. http://127.0.0.1:4096, without a password'),
        ("agent:\n  backend: opencode\n  command: [oc]\n  keys: [K]\n  permission: {edit: deny}\n  url: http://h", "6: agent.url names a server that is already running, so agent.command and agent.keys and agent.permission would have no effect; remove one or the other"),
        ("budget: {run: {cost: -1}}", "1: budget.run.cost is -1; write a number, 0 or more"),
        ("budget: {node: {tokens: 1.5}}", "1: budget.node.tokens is 1.5; write a whole number, 0 or more"),
        ("\nbudget: {node: {turns: 9}, run: {turns: 3}}", "2: budget node.turns (9) is above run.turns (3); the wider budget would always run out first, so raise it"),
        ("budget: {run: {cost: 5, seconds: 5}, node: {tokens: 1}}", "1: budget sets node.tokens, run.cost, but agent.backend command does not report tokens or cost; limit turns or seconds instead"),
        ("prompts:\n  taks: a.md", '2: "taks" is not a known key of prompts. Did you mean "task"?'),
        ("prompts: {zzz: a.md}", '1: "zzz" is not a known key of prompts; the keys are changes, conflict, red, review, task'),
        ("prompts: {task: /a.md}", '1: prompts.task is "/a.md", which is not relative; write it relative to the top of the repository'),
        ("notify: {webhook: 'hooks.example/T0/s3cret'}", "1: notify.webhook is not an address; write one that begins with https:// or http://"),
        ("notify: {webhook_env: '$HOOK'}", "1: notify.webhook_env is not the name of a variable; write one such as SLACK_WEBHOOK, without `$`"),
        ("notify: {webhook: 'https://h/x', webhook_env: HOOK}", "1: notify has both webhook and webhook_env; remove one of them"),
        ("notify: {on: [blockd]}", '1: notify.on item 1 is "blockd"; use blocked, person, limit or ended. Did you mean "blocked"?'),
        ("land: {mode: pr}", '1: land.mode is "pr"; use local or push'),
        ("land: {mode: branch}", '1: land.mode is "branch"; use local or push'),
        ("land: {remote: --upload-pack=id}", "1: land.remote is \"--upload-pack=id\", which has a part that starts with '-'; write the name of a remote, as `git remote` lists it"),
        ("land: {remote: 'https://x.org/y'}", "1: land.remote is \"https://x.org/y\", which contains ':', which git does not allow in a branch name; write the name of a remote, as `git remote` lists it"),
        ("land: {remote: ../other}", "1: land.remote is \"../other\", which has a part that starts with '.'; write the name of a remote, as `git remote` lists it"),
        ("land: {remote: ''}", '1: land.remote is "", which is empty; write the name of a remote, as `git remote` lists it'),
        ("land: {fetch_seconds: 0}", "1: land.fetch_seconds is 0; write a number above 0"),
        ("agent: {command: [a, '{rol}']}", "1: agent.command contains {rol}; the placeholders are {role}, {prompt_file}, {answer_file}, {session}"),
        ("agent: {preset: cluade}", '1: agent.preset is "cluade"; the presets are claude, codex. Did you mean "claude"?'),
        ("agent: {preset: aider}", '1: agent.preset is "aider"; the presets are claude, codex'),
        ("agent:\n  backend: opencode\n  preset: claude", "3: agent.preset is for programs, but agent.backend is opencode; remove one of them"),
        ("agent:\n  command: [claude, -p]\n  preset: claude", "2: agent.command would replace the command of agent.preset; remove one of them"),
        ("agent: {preset: claude, model: '--settings x'}", '1: agent.model is "--settings x"; write the name of a model as the program takes it'),
        ("agent: {preset: claude, keys: [A]}", "1: agent.keys is for opencode only, but agent.backend is command; set `backend: opencode`, or remove this key"),
        ("agent: {preset: codex}\nbudget: {run: {cost: 5, tokens: 9}}", "2: budget sets run.cost, but codex does not report cost; limit tokens, turns or seconds instead"),
        ("agent: {command: ['']}", "1: agent.command starts with an empty word; the first word is the program to run"),
        ("copy: [a, ../x]", '1: copy item 2 is "../x", which contains `..`; write a path inside the repository'),
        ("keep: [/tmp]", '1: keep item 1 is "/tmp", which is not relative; write it relative to the top of the repository'),
        ("setup_key: [.]", '1: setup_key item 1 is ".", which is not a file or directory of a worktree; name one'),
        ("tasks_dir: ../x", '1: tasks_dir is "../x", which contains `..`; write a path inside the repository'),
        ("target: refs/heads/x", '1: target is "refs/heads/x", which git reads as a full ref; write a plain branch name, e.g. main'),
        ("target: HEAD", '1: target is "HEAD", which git reads as the current checkout; write a plain branch name, e.g. main'),
        (f"target: {'deadbeef' * 5}", f'1: target is "{"deadbeef" * 5}", which git reads as an object id; write a plain branch name, e.g. main'),
        ("target: a..b", "1: target is \"a..b\", which contains '..' or '@{', which git reads as a revision; write a valid branch name"),
        ("branch_prefix: -x/", "1: branch_prefix is \"-x/x\", which has a part that starts with '-'; write a valid branch name"),
        ("branch_prefix: ''", "1: branch_prefix is empty, so a task could take the name of another branch; write one such as `feat/`"),
        ("roles: {review: a b}", '1: roles.review is "a b"; write the name of a role, e.g. implementation-specialist'),
        ("env: {agent: [A=b]}", '1: env.agent item 1 is "A=b"; write the name of a variable or a glob, e.g. `NPM_*`, without a value'),
        ("verify: [a]\nverify: [b]", '2: "verify" is given twice, first on line 1; remove one'),
        ("verify: &v [a]", "1: the anchor &v is not allowed; remove it, or quote the value if the & is literal"),
        ("- a", "1: the file is not a mapping; write lines of `key: value`"),
        ("a: [", "1: the file is not valid YAML: did not find expected node content (while parsing a flow node); check the indentation and the quotes"),
        ("copy_paths: [a]", '1: "copy_paths" is not a known key; the keys are agent, branch_prefix, budget, copy, env, keep, kept_days, land, max_sessions, notify, prompts, protected_paths, report, retry, review, roles, safe_exit, server_linger_seconds, setup, setup_key, spawn, spokes, target, tasks_dir, verify, watch, wrapper'),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what_to_do(text: str, fault: str) -> None:
    assert faults(text) == [f"{PATH}:{fault}"]


def test_every_key_for_opencode_is_read() -> None:
    text = """
agent:
  backend: opencode
  command: [npx, opencode, "${HOME}"]
  model: anthropic/claude-sonnet-4-5
  models: {code-reviewer: openrouter/openai/gpt-5, team/scout: a/b}
  keys: [ANTHROPIC_API_KEY, "OPENROUTER_*"]
  config: {provider: {local: {options: {baseURL: "http://127.0.0.1:1/v1", timeout: 5}}}, small_model: a/b}
  permission: {webfetch: deny, bash: {"*": allow, "git push *": deny}}
budget: {attempt: {tokens: 1, cost: 0.5}, node: {tokens: 1}, run: {cost: 5, turns: 3, seconds: 60}}
prompts: {task: ./prompts/task.md}
watch: {stall_seconds: 5, tool_seconds: 6}
"""
    read = read_settings(text, PATH, {})
    assert read.agent.models == {"code-reviewer": "openrouter/openai/gpt-5", "team/scout": "a/b"}
    assert read.agent.config["provider"]["local"]["options"] == {"baseURL": "http://127.0.0.1:1/v1", "timeout": 5}
    rules = read.agent.permission["bash"]
    assert isinstance(rules, dict)
    assert list(rules.items()) == [("*", "allow"), ("git push *", "deny")], (
        "the last match counts, so the order is kept"
    )
    assert (read.budget.attempt.cost, read.budget.run.turns, read.budget.node.seconds) == (0.5, 3, 0)
    assert read.prompts == {"task": "prompts/task.md"}
    served = read_settings("agent: {backend: opencode, url: 'http://127.0.0.1:4096/'}", PATH, {})
    assert served.agent.url == "http://127.0.0.1:4096"


def test_a_model_follows_from_the_task_file_then_the_role() -> None:
    read = read_settings("agent: {backend: opencode, model: a/usual, models: {code-reviewer: a/judge}}", PATH, {})
    plain, own = Task("a", "A", "tasks/a.md"), Task("b", "B", "tasks/b.md", model="b/own")
    assert read.model_for(own, "implementation-specialist") == "b/own"
    assert read.model_for(own, "code-reviewer") == "a/judge", "the reviewer uses the reviewer's model"
    assert read.model_for(plain, "implementation-specialist") == "", "the role's own model or agent.model applies"


def test_every_fault_of_an_agent_is_reported_at_its_own_line() -> None:
    found = faults("agent:\n  model: x\n  config: {share: auto}\n  url: h\n")
    assert [fault.split(":")[1:3] for fault in found] == [
        ["2", ' agent.model is "x"; write it as provider/model, as `opencode models` lists it'],
        ["3", " agent.config.share cannot be set here; sessions are never shared, so remove it"],
        ["4", " agent.url is for opencode only, but agent.backend is command; set `backend"],
    ]


def test_all_faults_of_file_and_environment_are_reported_at_once() -> None:
    found = faults("max_sessions: x\nfoo: 1\nverify: a\n", COORDINATOR_RETRY__ATTEMPTS="0", COORDINATOR_SETUP="[a")
    assert [fault.partition(" ")[0] for fault in found] == [
        "COORDINATOR_RETRY__ATTEMPTS:",
        "COORDINATOR_SETUP:",
        f"{PATH}:1:",
        f"{PATH}:2:",
        f"{PATH}:3:",
    ]


@pytest.mark.parametrize(
    "pattern",
    ["PREFECT_API_KEY", "PREFECT_*", "*", "**", "P*", "*_KEY", "???????_*", "[P]REFECT_X", "PRE*T_?", "PREFECT?", "*Y"],
)
def test_pattern_that_can_match_prefects_own_variables_is_refused(pattern: str) -> None:
    assert "which can match PREFECT_*" in faults(f"env: {{agent: ['{pattern}']}}")[0]


@pytest.mark.parametrize("pattern", ["PATH", "P", "PREFECT", "NPM_*", "PREFERENCE_*", "A*_KEY", "prefect_*", "???"])
def test_pattern_that_cannot_match_them_is_accepted(pattern: str) -> None:
    assert read_settings(f"env: {{agent: ['{pattern}']}}", PATH, {}).env.agent == (pattern,)


def test_variables_override_the_file() -> None:
    environment = {
        "COORDINATOR_MAX_SESSIONS": "8",
        "COORDINATOR_RETRY__ATTEMPTS": "2",
        "COORDINATOR_VERIFY": "- make test\n- 'true'",
        "COORDINATOR_COPY": "[.env]",
        "COORDINATOR_BRANCH_PREFIX": "12",
        "COORDINATOR_REVIEW": "{when: never}",
        "COORDINATOR_REVIEW__MAX_ROUNDS": "3",
        "COORDINATOR_ROLES__RESEARCH": "scout",
        "COORDINATOR_LAND": "",
        "COORDINATOR_AGENT__BACKEND": "opencode",
        "COORDINATOR_AGENT__MODEL": "a/b",
        "COORDINATOR_AGENT__MODELS__SCOUT": "c/d",
        "COORDINATOR_AGENT__KEYS": "[A_KEY]",
        "COORDINATOR_AGENT__CONFIG__PROVIDER": "{local: {npm: x}}",
        "COORDINATOR_AGENT__PERMISSION__WEBFETCH": "deny",
        "COORDINATOR_AGENT__PERMISSION__BASH": "{'*': ask}",
        "COORDINATOR_BUDGET__RUN__COST": "2.5",
        "COORDINATOR_PROMPTS__RED": "red.md",
    }
    text = "max_sessions: bad\nverify: bad\nretry: {attempts: 99, delay_seconds: 1}\nroles: {review: me}\nland: {give_backs: 1}\n"
    read = read_settings(text, PATH, environment)
    assert (read.max_sessions, read.retry.attempts, read.retry.delay_seconds) == (8, 2, 1)
    assert (read.verify, read.copy_paths, read.branch_prefix) == (("make test", "true"), (".env",), "12")
    assert (read.review.when, read.review.max_rounds, read.land.give_backs) == ("never", 3, 1)
    assert read.roles == {"review": "me", "research": "scout"}
    assert (read.agent.model, read.agent.models, read.agent.keys) == ("a/b", {"scout": "c/d"}, ("A_KEY",))
    assert read.agent.config == {"provider": {"local": {"npm": "x"}}}
    assert read.agent.permission == {"webfetch": "deny", "bash": {"*": "ask"}}
    assert (read.budget.run.cost, read.prompts) == (2.5, {"red": "red.md"})


def test_variables_that_match_no_key_or_belong_to_an_agent_are_ignored() -> None:
    names = [
        "TASK_ID",
        "TASK_FILE",
        "BRANCH",
        "WORKTREE",
        "ROLE",
        "ATTEMPT",
        "TURN",
        "SESSION",
        "TARGET",
        "SLOT",
        "DATA_DIR",
        "COPY_PATHS",
        "RETRY__X",
        "ZZZ",
        "TARGET__X",
    ]
    environment = {f"COORDINATOR_{name}": "7" for name in names} | {
        "coordinator_max_sessions": "9",
        "MAX_SESSIONS": "9",
    }
    assert read_settings("", PATH, environment) == Settings()


@pytest.mark.parametrize("name", ["BRANCH_PREFIX", "LAND__REMOTE", "AGENT__MODELS__X", "VERIFY", "MAX_SESSIONS"])
def test_a_variable_that_is_not_utf8_is_refused_whatever_its_key(name: str) -> None:
    said = faults("", **{f"COORDINATOR_{name}": "\udcff"})
    assert said == [f"COORDINATOR_{name}: its value contains bytes that are not UTF-8; write it in UTF-8"]


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("VERIFY", "make test", "verify is not a list; write it as YAML, e.g. `[make test]`"),
        ("RETRY", "3", "retry is 3; write its keys below it, indented, one per line"),
        ("REVIEW__WHEN", "x", 'review.when is "x"; use auto, always or never'),
        ("WATCH", "{a: 1}", '"a" is not a known key of watch; the keys are conflict_seconds, free_disk_mb, free_memory_mb, input_seconds, limit_seconds, memory_mb, nudges, setup_seconds, stall_seconds, stop_seconds, suspend_seconds, tool_seconds, turn_seconds, verify_seconds'),
        ("VERIFY", "[a, 1]", 'verify item 2 is 1, not text; quote it: "1"'),
        ("AGENT__MODEL", "a/b", "agent.model is for opencode only, but agent.backend is command; set `backend: opencode`, or remove this key"),
        ("BUDGET__RUN__COST", "1", "budget sets run.cost, but agent.backend command does not report tokens or cost; limit turns or seconds instead"),
    ],
)  # fmt: skip
def test_a_bad_variable_is_a_fault_under_its_own_name(name: str, value: str, fault: str) -> None:
    assert faults("verify: [a]\nwatch: {nudges: 1}", **{f"COORDINATOR_{name}": value}) == [
        f"COORDINATOR_{name}: {fault}"
    ]


@limits(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab1:-[]{}#&*!|'\"\n ,~\0\ud800"), max_size=30), st.text(max_size=10))
def test_any_text_is_read_or_refused_with_faults(text: str, value: str) -> None:
    try:
        read_settings(f"verify: {text}", PATH, {"COORDINATOR_SETUP": value, "COORDINATOR_TASKS_DIR": value})
    except InputError as error:
        assert error.faults  # noqa: PT017 - Both endings are fine, but an error must list a fault.


@pytest.mark.parametrize(
    ("level", "role"),
    [
        (None, "implementation-specialist"),
        ("implementation", "implementation-specialist"),
        ("whatever", "implementation-specialist"),
        ("review", "code-reviewer"),
        ("Research", "poc-specialist"),
        ("architecture", "architect"),
        ("decomposition", "decomposer"),
        ("planning", "decomposer"),
    ],
)
def test_a_level_has_its_default_role(level: str | None, role: str) -> None:
    assert Settings().role_for(level) == role


def test_review_is_wanted_for_risky_or_broad_tasks() -> None:
    def wants(when: str, **task: object) -> bool:
        read = read_settings(f"review: {{when: {when}}}", PATH, {})
        return bool(read.explain_review(Task("a", "A", "tasks/a.md", **task)))  # pyright: ignore[reportArgumentType]

    assert [risk for risk in Risk if wants("auto", risk=risk)] == [Risk.HIGH, Risk.CRITICAL]
    assert [scope for scope in Scope if wants("auto", scope=scope)] == [Scope.BROAD, Scope.SYSTEM]
    assert not wants("auto")
    assert wants("always")
    assert not wants("never", risk=Risk.CRITICAL)
    assert not wants("always", level="review")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().max_sessions = 5  # pyright: ignore[reportAttributeAccessIssue]


def test_the_schema_describes_every_key() -> None:
    schema = settings_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "coordinator.yaml"
    assert "copy" in schema["properties"]
    assert "copy_paths" not in schema["properties"]
    sections = [schema, *schema["$defs"].values()]
    assert all(section["additionalProperties"] is False for section in sections)
    assert all(key.get("description") for section in sections for key in section["properties"].values())
    assert json.loads(json.dumps(schema)) == schema


def test_the_digest_changes_with_the_verification_and_nothing_else() -> None:
    one = Settings(verify=("make",))
    others = [
        Settings(verify=("make", "x")),
        Settings(verify=("make",), setup=("a",)),
        Settings(verify=("make",), wrapper=("a",)),
    ]
    assert len({digest_verify(settings) for settings in [one, *others]}) == 4
    assert digest_verify(one) == digest_verify(Settings(verify=("make",), max_sessions=9))
    assert len(digest_verify(one)) == 16
    assert digest_verify(Settings(setup=("a",))) == "none"
