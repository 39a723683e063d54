"""Output of test runners that ran no tests or could not run, and output that only looks like it."""

import pytest

from tasks_lib.verify_output import explain_broken, find_no_test

NONE = {
    "pytest": "============ test session starts ============\ncollected 0 items\n\n======= no tests ran in 0.01s =======",
    "pytest -q": "\nno tests ran in 0.00s",
    "pytest deselected": "collected 3 items / 3 deselected / 0 selected\n\n======= 3 deselected in 0.01s =======",
    "unittest": "\n----------------------------------------------------------------------\nRan 0 tests in 0.000s\n\nOK",
    "unittest 3.12": "\n-----\nRan 0 tests in 0.000s\n\nNO TESTS RAN",
    "go": "?   \texample.com/x\t[no test files]\n?   \texample.com/x/y\t[no test files]",
    "go run none": "testing: warning: no tests to run\nPASS\nok  \texample.com/x\t0.002s [no tests to run]",
    "go cached": "ok  \texample.com/x\t(cached) [no tests to run]",
    "go coverage": "ok  \texample.com/x\t0.002s\tcoverage: 0.0% of statements [no tests to run]",
    "go without packages": 'go: warning: "./..." matched no packages\nno packages to test',
    "cargo": (
        "     Running unittests src/lib.rs\n\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored\n\n"
        "   Doc-tests x\n\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; finished in 0.00s"
    ),
    "nextest": "    Summary [   0.001s] 0 tests run: 0 passed, 0 skipped\nerror: no tests to run",
    "jest": "No tests found, exiting with code 0",
    "jest with files": "Test Suites: 0 of 1 total\nTests:       0 total\nSnapshots:   0 total",
    "vitest": "\n RUN  v1.0.0 /x\n\nNo test files found, exiting with code 0\n",
    "mocha": "\n\n  0 passing (1ms)\n",
    "ctest": "Test project /x\nNo tests were found!!!",
    "TAP": "TAP version 13\n1..0 # skipped: none",
    "node": "# tests 0\n# suites 0\n# pass 0\n# fail 0",
    "maven": "[INFO] --- surefire:3.0 ---\n[INFO] No tests to run.\n[INFO] BUILD SUCCESS",
    "surefire": "Tests run: 0, Failures: 0, Errors: 0, Skipped: 0",
    "gradle": "> Task :compileTestJava NO-SOURCE\n> Task :test NO-SOURCE\n\nBUILD SUCCESSFUL in 1s",
    "rspec": "No examples found.\n\nFinished in 0.0 seconds\n0 examples, 0 failures",
    "minitest": "Finished in 0.001s\n0 runs, 0 assertions, 0 failures, 0 errors, 0 skips",
    "PHPUnit": "PHPUnit 10\n\nNo tests executed!",
    "deno": "ok | 0 passed | 0 failed (1ms)",
    "swift": "\t Executed 0 tests, with 0 failures (0 unexpected) in 0.0 seconds",
    "mix": "There are no tests to run",
    "GoogleTest": "[==========] Running 0 tests from 0 test suites.\n[==========] 0 tests from 0 test suites ran. (0 ms total)",
    "prove": "Files=0, Tests=0,  0 wallclock secs\nResult: NOTESTS",
}

SOME = {
    "nothing": "",
    "a linter": "All checks passed!",
    "pytest": "collected 1 item\n\n======= 1 passed in 0.01s =======",
    "pytest failures": "======= 2 failed, 1 passed in 0.31s =======",
    "pytest twice": "no tests ran in 0.00s\n1 passed in 0.01s",
    "pytest skipped": "======= 3 skipped in 0.02s =======",
    "unittest": "Ran 10 tests in 0.000s\n\nOK",
    "unittest hundred": "Ran 100 tests in 0.000s\n\nOK",
    "unittest twice": "Ran 0 tests in 0.000s\n\nOK\nRan 4 tests in 0.1s\n\nOK",
    "go packages": "?   \texample.com/x\t[no test files]\nok  \texample.com/x/y\t0.002s",
    "go coverage": "?   \texample.com/x\t[no test files]\nok  \texample.com/x/y\t(cached)\tcoverage: 81.2% of statements",
    "cargo": "running 3 tests\ntest result: ok. 3 passed; 0 failed\n\n   Doc-tests x\n\nrunning 0 tests\ntest result: ok. 0 passed",
    "jest": "Tests:       10 total",
    "vitest": " Test Files  1 passed (1)\n      Tests  10 passed (10)",
    "mocha": "  10 passing (1ms)",
    "mocha beside": "  0 passing (1ms)\n  2 passing (3ms)",
    "ctest": "No tests were found!!!\n100% tests passed, 0 tests failed out of 3",
    "TAP": "1..0 # skipped\n1..2\nok 1\nok 2",
    "maven modules": "[INFO] No tests to run.\n[INFO] Tests run: 12, Failures: 0, Errors: 0, Skipped: 0",
    "gradle modules": "> Task :a:test NO-SOURCE\n> Task :b:test",
    "rspec": "10 examples, 0 failures",
    "words of a document": "The runner says `no tests ran` and exits with 5 where it collected 0 items.",
    "a quoted line": '> "Ran 0 tests in 0.000s" is what unittest prints',
    "words long before the end": "no tests ran in 0.00s\n" + "compiled\n" * 60,
}

BROKEN = {
    "dash": (127, "sh: 1: pytest: not found", "sh: 1: pytest: not found"),
    "dash by path": (127, "/bin/sh: 1: pytest: not found", "pytest: not found"),
    "bash": (127, "bash: line 1: pytest: command not found", "command not found"),
    "script": (127, "./test.sh: line 3: pytest: command not found", "line 3"),
    "not executable": (126, "sh: 1: ./test.sh: Permission denied", "Permission denied"),
    "wrong format": (126, "sh: 1: ./tool: Exec format error", "Exec format error"),
    "env": (127, "/usr/bin/env: ‘pyhton’: No such file or directory", "pyhton"),
    "no words": (127, "", "a program was not found"),
    "no words of 126": (126, "", "could not be executed"),
    "make": (2, "make: pytest: No such file or directory\nmake: *** [Makefile:2: test] Error 127", "Error 127"),
    "make without rule": (2, "make: *** No rule to make target 'test'.  Stop.", "No rule"),
    "make without file": (2, "make: *** No targets specified and no makefile found.  Stop.", "no makefile"),
    "npm": (1, 'npm ERR! Missing script: "test"\nnpm ERR! \nnpm ERR! To see a list', "Missing script"),
    "npm 10": (1, 'npm error Missing script: "test"', "Missing script"),
    "python module": (1, "/usr/bin/python3: No module named pytest", "No module named pytest"),
    "python file": (2, "python3: can't open file '/x/t.py': [Errno 2] No such file or directory", "can't open file"),
    "script that is gone": (2, "sh: 0: cannot open run.sh: No such file", "cannot open run.sh"),
    "uv": (2, "error: Failed to spawn: `pytest`\n  Caused by: No such file", "Failed to spawn"),
    "poetry": (1, "Command not found: pytest", "Command not found"),
    "cargo": (101, "error: could not find `Cargo.toml` in `/x`", "Cargo.toml"),
    "go": (1, "go: go.mod file not found in current directory", "go.mod"),
    "pytest without files": (
        4,
        "ERROR: file or directory not found: tests\n\nno tests ran in 0.00s",
        "not found: tests",
    ),
    "pytest": (5, "no tests ran in 0.00s", "it ran no tests: no tests ran in 0.00s"),
    "unittest": (5, "Ran 0 tests in 0.000s\n\nNO TESTS RAN", "it ran no test"),
    "killed": (137, "", "because memory ran out"),
    "killed itself": (-9, "", "because memory ran out"),
}

RED = {
    "a test": (1, "E   assert 1 == 2\n======= 1 failed in 0.1s ======="),
    "a test of not found": (1, "E   KeyError: user not found\n1 failed in 0.1s"),
    "a test that misses a file": (1, "FileNotFoundError: [Errno 2] No such file or directory: 'x'"),
    "a module of the work": (1, "ModuleNotFoundError: No module named 'shop.cart'"),
    "make": (2, "make: *** [Makefile:2: test] Error 1"),
    "a compiler": (1, "src/a.c:1:10: fatal error: a.h: No such file or directory"),
    "nothing said": (1, ""),
    "terminated": (143, ""),
}


@pytest.mark.parametrize("output", NONE.values(), ids=NONE.keys())
def test_runner_that_ran_no_tests_is_detected(output: str) -> None:
    assert find_no_test(output) in [line.strip() for line in output.splitlines()]
    assert find_no_test(output)


@pytest.mark.parametrize("output", SOME.values(), ids=SOME.keys())
def test_runner_that_ran_tests_and_mere_mentions_are_not_detected(output: str) -> None:
    assert find_no_test(output) == ""


@pytest.mark.parametrize(("status", "output", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_gate_that_cannot_run_says_why(status: int, output: str, said: str) -> None:
    assert said in explain_broken(status, output)


@pytest.mark.parametrize(("status", "output"), RED.values(), ids=RED.keys())
def test_failing_work_is_not_reported_as_a_broken_gate(status: int, output: str) -> None:
    assert explain_broken(status, output) == ""
