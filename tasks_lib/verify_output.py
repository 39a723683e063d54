"""Reads the output of `verify`: whether it could run at all, and whether a test runner reports that it ran no tests.

A `verify` that cannot run is broken and says nothing about the work it was to verify. Patterns match whole lines that
test runners print, so text that merely mentions them does not match.
"""

import re
from collections.abc import Iterable

from tasks_lib.text import cut

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_SIGNALS = 128
_KILLED = 9
KILLED = "it was killed, possibly because memory ran out"
_LAST_LINES = 40
"""A runner that ran nothing prints little, and says so at the end."""
_LINE_CHARS = 200

_MISSING = re.compile(
    r"""
      ^(?:\S*/)?(?:ba|da|a|z|k)?sh:\s.*:\s(?:command\s)?not\sfound$    # sh: 1: pytest: not found
    | ^\S+:\s(?:line\s)?\d+:\s\S+:\s(?:command\s)?not\sfound$        # ./test.sh: line 3: pytest: command not found
    | ^(?:\S+:\s(?:line\s)?\d+:|(?:\S*/)?(?:ba|da|a|z|k)?sh:|(?:\S*/)?env:)\s.*:\s
      (?:Permission\sdenied|No\ssuch\sfile\sor\sdirectory|cannot\sexecute\b.*|[Ee]xec\sformat\serror)$
    | ^(?:\S*/)?(?:ba|da|a|z|k)?sh:\s.*\b(?:cannot\sopen|can't\sopen)\b
    | ^\S*python[\d.]*:\s(?:No\smodule\snamed\s|can't\sopen\sfile\s)
    | ^(?:g?make)(?:\[\d+\])?:\s\*\*\*\s(?:\[.*\]\sError\s12[67]$|No\srule\sto\smake\starget|No\stargets\sspecified)
    | ^npm\s(?:ERR!|error)\s(?:Missing\sscript:|enoent\b)
    | ^\s*(?:error:\s)?(?:Failed\sto\sspawn:|Command\snot\sfound:|could\snot\sfind\s`Cargo\.toml`)
    | ^error:\s(?:Script|script)\snot\sfound
    | ^error\sCommand\s"[^"]*"\snot\sfound
    | ^go:\s(?:cannot\sfind\smain\smodule|go\.mod\sfile\snot\sfound)
    | ^ERROR:\s(?:file\sor\sdirectory\snot\sfound|not\sfound):
    | ^(?:Cannot|docker:\sCannot)\sconnect\sto\sthe\sDocker\sdaemon
    """,
    re.VERBOSE,
)
_NO_TEST = re.compile(
    r"""^\s*(?:
      =*\s*no\stests\sran(?:\sin\s[\d.]+\s?s(?:econds)?)?(?:\s\([\d:]+\))?\s*=*           # pytest
    | =*\s*\d+\sdeselected\sin\s[\d.]+s(?:\s\([\d:]+\))?\s*=*
    | Ran\s0\stests\sin\s[\d.]+s | NO\sTESTS\sRAN                                         # unittest
    | \?\s+\S+\s+\[no\stest\sfiles\]                                                      # go
    | ok\s+\S+\s+(?:[\d.]+s|\(cached\))(?:\s+coverage:.*)?\s+\[no\stests\sto\srun\]
    | no\spackages\sto\stest
    | running\s0\stests | error:\sno\stests\sto\srun                                      # cargo, nextest
    | Summary\s\[\s*[\d.]+s\]\s0\stests\srun:.*
    | No\stests\sfound,\sexiting\swith\scode\s\d | Tests:\s+0\stotal                      # jest
    | No\stest\sfiles\sfound,\sexiting\swith\scode\s\d | Tests\s+no\stests                # vitest
    | 0\spassing(?:\s\(\d+m?s\))? | Error:\sNo\stest\sfiles\sfound:?.*                    # mocha
    | No\stests\swere\sfound!!!                                                           # ctest
    | 1\.\.0(?:\s\#.*)? | (?:\#|ℹ)\stests\s0                                              # TAP, node
    | (?:\[INFO\]\s)?(?:No\stests\sto\srun\.|There\sare\sno\stests\sto\srun\.?)            # maven, mix
    | (?:\[INFO\]\s)?Tests\srun:\s0,\sFailures:\s0.*
    | >\sTask\s\S*[tT]est\sNO-SOURCE                                                      # gradle
    | No\stest\sis\savailable\sin\s.*                                                     # dotnet
    | 0\sexamples,\s0\sfailures.* | No\sexamples\sfound\.                                 # rspec
    | 0\sruns,\s0\sassertions.* | No\stests\sexecuted!                                    # minitest, PHPUnit
    | error:\sNo\stest\smodules\sfound | ok\s\|\s0\spassed\s\|\s0\sfailed.*               # deno
    | No\stests\sfound!                                                                   # bun
    | Executed\s0\stests,\swith\s0\sfailures.* | Executed\s0\sof\s0\b.*                   # swift, karma
    | 0\stests,\s0\sfailures                                                              # mix
    | No\stests\swere\sexecuted | Total\snumber\sof\stests\srun:\s0                       # sbt
    | No\stests\sran\.                                                                    # Catch2, dart
    | \[=+\]\s0\stests\sfrom\s0\stest\ssuites\sran\..*                                    # GoogleTest
    | Files=0,\sTests=0,.* | Result:\sNOTESTS                                             # prove
    )\s*$""",
    re.VERBOSE,
)
_SOME_TEST = re.compile(
    r"""^\s*(?:
      (?:=*\s)?(?:.*,\s)?[1-9]\d*\s(?:passed|failed|errors?|xfailed|xpassed)\b.*\sin\s[\d.]+\s?s.*   # pytest
    | Ran\s[1-9]\d*\stests?\sin\s.*
    | ok\s+\S+\s+(?:[\d.]+s|\(cached\))(?:\s+coverage:.*)? | ---\s(?:PASS|FAIL):\s.*                 # go
    | running\s[1-9]\d*\stests? | test\sresult:\s\w+\.\s[1-9]\d*\spassed.*
    | Summary\s\[\s*[\d.]+s\]\s[1-9]\d*\stests?\srun:.*
    | Tests:?\s+.*[1-9]\d*\s(?:passed|failed|total).*
    | [1-9]\d*\spassing\b.*
    | \d+%\stests\spassed,\s\d+\stests\sfailed\sout\sof\s[1-9]\d*
    | 1\.\.[1-9]\d*.* | (?:not\s)?ok\s\d+\b.* | (?:\#|ℹ)\stests\s[1-9]\d*
    | (?:\[\w+\]\s)?Tests\srun:\s[1-9]\d*.*
    | >\sTask\s\S*[tT]est(?:\sUP-TO-DATE|\sFROM-CACHE|\sFAILED)?
    | (?:Passed|Failed)!\s+-\s.* | Total\stests:\s[1-9]\d*
    | [1-9]\d*\sexamples?,\s.* | [1-9]\d*\sruns,\s.* | OK\s\([1-9]\d*\stests?,.*
    | ok\s\|\s[1-9]\d*\spassed.* | [1-9]\d*\spass
    | Executed\s[1-9]\d*\s.* | [1-9]\d*\stests?,\s\d+\sfailures?.*
    | Total\snumber\sof\stests\srun:\s[1-9]\d* | All\stests\spassed\b.*
    | \[=+\]\s[1-9]\d*\stests?\sfrom\s.* | Files=[1-9]\d*,\sTests=[1-9]\d*,.*
    )\s*$""",
    re.VERBOSE,
)


def find_no_test(output: str) -> str:
    """The line in which a runner reports that it ran no tests; "" if there is none, or if another line reports tests.

    `output` is everything that one line of `verify` printed, without escape sequences. With several packages or suites,
    it is enough that one of them ran something.
    """
    lines = [line.strip() for line in output.splitlines()]
    lines = [line for line in lines if line]
    said = next((line for line in reversed(lines[-_LAST_LINES:]) if _NO_TEST.match(line)), "")
    if not said or any(_SOME_TEST.match(line) and not _NO_TEST.match(line) for line in lines):
        return ""
    return cut(said, _LINE_CHARS)


def explain_broken(status: int, output: str) -> str:
    """Why a line that exited with `status` (not 0) may have been unable to run; "" if nothing indicates that.

    This only words the reason. Whether `verify` is broken is decided by running it on the head alone.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()][-_LAST_LINES:]
    missing = next((line for line in reversed(lines) if _MISSING.search(line)), "")
    if missing:
        return f"it could not run: {cut(missing, _LINE_CHARS)}"
    if status in (_NOT_EXECUTABLE, _NOT_FOUND):
        return "a program was not found" if status == _NOT_FOUND else "a program could not be executed"
    if said := find_no_test(output):
        return f"it ran no tests: {said}"
    if status in (-_KILLED, _SIGNALS + _KILLED):
        return KILLED
    return ""


def list_untested_lines(outputs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The lines that ran no tests, each with the output that says so; `outputs` pairs each line with its output."""
    return tuple((line, said) for line, output in outputs if (said := find_no_test(output)))
