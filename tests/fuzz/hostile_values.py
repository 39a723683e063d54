"""The words that hostile input is made of: unexpected values, and the usual ones among them."""

from collections.abc import Mapping, Sequence

PATHS = (
    "../x", "..", ".", "./a", "/etc/x", "~/x", "~root", "a//b", "a/", "/", "a/../../b", "a/./b", ".git", "a/.git/config",
    ".GIT/x", ".worktrees/x", "-x", "--help", "a/-x", "C:\\x", "a\\b", "a\0b", "a\nb", "a\tb", "a.lock", "a.lock/b",
    "a.", "a./b", "@", "a/@", "@{", "@{-1}", "HEAD", "refs/heads/x", "FETCH_HEAD", "origin/main",
    "stash", "deadbeef", "d" * 40, "d" * 64, "a~1", "a^", "a:b", "a?", "a*", "[a]", "a b",
    "x" * 151, "x" * 5000, "x/" * 3000 + "x", "ü" * 140, "\U0001f600" * 60,
)  # fmt: skip
TEXTS = (
    *PATHS, "", " ", "\u202egnp.exe", "a\u200bb", "a\u2028b", "a\x85b", "\ufeffa", "cafe\u0301", "caf\xe9", "\u0430bc",
    "\ufb01x", "A", "\x1b[31mred", "\x07", "$(id)", "`id`", "${HOME}", "$name", "{role}", "{nobody}", "%s", "# c",
    "a: b", "- a", "null", "on", "1e3", "2024-01-01", "=", "<<", "__class__", "PREFECT_*", "*", "[!a]", "[", "A=b",
    "http://u:p@h/", "file:///etc/passwd", "a/b", "a b/c", "opencode", "command", "pending", "human", "ß" * 100,
    "y" * 100_000,
)  # fmt: skip
SNIPPETS = (
    "!!python/object/apply:os.system [id]", "!!python/name:os.system ''", "!<tag:x> y", "!" + "t" * 3000 + " y", "! x",
    "&a [*a]", "&" + "a" * 2000 + " x", "*a", "*" + "a" * 2000, "{<<: {a: 1}}", "{? a}", "? a\n: b", "- - - - a",
    "[" * 40, "{a: " * 40, "[" * 10_000, "- " * 5_000, "[a, b", "{a: b", "a: b: c", "'", '"', "\"a\\qb\"", "|", ">-\n  x",
    "|\n  x\n y", "%YAML 1.1", "---", "...", "--- a", "@a", "`a`", "\ta", "#", ",", "}", "]", ":", "?", "-",
    "0x" + "f" * 6_000, "9" * 5_000, "-1", "0", "1.5", "1e999", ".inf", ".nan", "2024-99-99", "2024-01-01T00:00:00Z",
    "12:30:45", "0o9", "0777", "0b1", "1_0", "~", "null", "true", "no", "", '"\\ud800"', '"\\U00110000"', '"\\0"',
    '"\\x1b[2J"', '"\\u202e"', "[]", "{}", "[~]", "[[a]]", "[{a: b}]", "{a: {b: {c: d}}}", "[a, a]", "{a: 1, a: 2}",
    "[" + "a," * 3000 + "]", "{" + ",".join(f"k{n}: v" for n in range(500)) + "}",
)  # fmt: skip
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: y}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BYTES = (
    b"\0", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xef\xbb\xbf", b"\x85", b"\r", b"\r\n", b"\n", b"\t",
    b"---\n", b"\n---\n", b"\n...\n", b"\xe2\x80\xa8", b"\x1b[2J", b"\x7f", b"```\n", b"## Notes\n", b"## Summary\n",
)  # fmt: skip
TASK_KEYS = (
    "id", "name", "title", "status", "depends_on", "dependsOn", "scope", "risk", "impact", "level", "priority",
    "assignee", "tags", "model", "due", "depend_on", "<<", "", "x" * 400, "a\x1b[2Jb",
)  # fmt: skip
USUAL: Mapping[str, Sequence[str]] = {
    "id": ("a", "b/c", "auth-setup", "v1.2_x"),
    "name": ("Do it", "'Do: it'", '"Größe"', ">-\n  Do\n  it", "|\n  Do it"),
    "status": ("pending", "In Progress", "'blocked'", '"completed"', "", "~ # unset", "|\n  pending", "\n   pending"),
    "depends_on": (
        "[x, y]",
        "[]",
        "",
        "\n  - x\n  - y/z",
        "[x, # why\n  'y']",
        "\n- x  # why",
        "[\n  ]",
        "[x,]",
        "\n -\n   x",
        "\n  - >-\n   x\n  - 'y'",
        "['x'  ,\"y\"  ]",
        "\n  # none\n",
        "[]  \n\n",
    ),
    "dependsOn": ("[x]", "", "\n  - x"),
    "scope": ("single", "broad"),
    "risk": ("low", "critical"),
    "level": ("review", "research", "implementation", "docs"),
    "tags": ("[a, b]", "[]"),
    "model": ("anthropic/claude-sonnet-4-5",),
}
ANY = ("x", "1", "2024-01-01", "{a: b}", "[a]", "", "yes")
LINES = (
    "## Notes", "## notes ##", "  ## Summary", "## Description", "# Title", "### Deeper", "```", "```sh", "~~~~", "- ```",
    "  ```", "1. ~~~", "> ## quoted", "- [ ] a box", "text", "größe  ", "", "", "---", "<!-- c -->", "> To be filled",
    "\x0c## Notes", "\u2028## Notes", "    ## Notes",
)  # fmt: skip

MEANT: Mapping[str, Sequence[str]] = {
    "target": ("main", "release/1"),
    "tasks_dir": ("work/tasks", "./tasks/"),
    "roles": ("{review: strict, Docs: writer}", "{}"),
    "branch_prefix": ("work/", "w-"),
    "setup": ("[npm ci]", "[]"),
    "verify": ("[make test]", "\n  - make test\n  - 'make lint'"),
    "setup_key": ("[package-lock.json]",),
    "keep": ("[node_modules/]",),
    "copy": ("[.env]",),
    "wrapper": ("[box, run]",),
    "command": ("[run, '{role}', '{prompt_file}']",),
    "agent": ("[CI]", "[MY_*]", "{backend: opencode}"),
    "prompts": ("{task: prompts/task.md}",),
    "model": ("a/b",),
    "config": ("{provider: {a: {b: [1, 2.5, x]}}}",),
    "permission": ("{bash: {'rm *': deny}, edit: ask}",),
}
