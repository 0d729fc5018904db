"""Where the seconds of a test run go: python tests/where_time_goes.py COMMAND [ARGUMENT ...]

Runs COMMAND, for instance `bash tests/run.sh`, and prints one line per test file, the longest
first: the seconds of its tests, the Python processes that they started, the seconds of those
processes, and how many of them passed while importing. Seconds are wall-clock time. Processes
started by processes are counted as well; programs that are not Python are not seen. Assertions of
test files are counted where pytest is told `-o enable_assertion_pass_hook=true` and no compiled
test file is left.

While COMMAND runs, a .pth file in this Python's site-packages starts the clock in every process of
this Python, whatever environment it was given. Run this script with the Python that runs the tests.
"""

import atexit
import json
import os
import sys
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))  # the log, where the clock was started from it
IMPORTED = {"seconds": 0.0, "depth": 0}


def start_clock() -> None:
    """Note the start of this process now and its end when it ends. Called from the .pth file."""
    began = time.time()
    _time_imports()
    pid = os.getpid()

    def log_end() -> None:
        if os.getpid() == pid:
            _log(process=pid, ancestors=ancestors, began=began, seconds=time.time() - began,
                 imports=IMPORTED["seconds"], cpu=sum(os.times()[:2]))  # fmt: skip

    ancestors = _ancestors()
    atexit.register(log_end)


def _time_imports() -> None:
    """Add up the seconds of all outermost imports. `import` asks this module by name each time."""
    import _frozen_importlib as machinery

    find_and_load = machinery._find_and_load

    def timed(name, import_):
        if IMPORTED["depth"]:
            return find_and_load(name, import_)
        began = time.perf_counter()
        IMPORTED["depth"] += 1
        try:
            return find_and_load(name, import_)
        finally:
            IMPORTED["depth"] -= 1
            IMPORTED["seconds"] += time.perf_counter() - began

    machinery._find_and_load = timed


def _ancestors() -> list[int]:
    """The process ids above this process, the nearest first."""
    pids, pid = [], os.getppid()
    while pid > 1:
        pids.append(pid)
        try:
            with open(f"/proc/{pid}/stat") as stat:
                pid = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            break
    return pids


def _log(**entry: object) -> None:
    try:
        with open(os.path.join(FOLDER, f"{os.getpid()}.jsonl"), "a") as log:
            log.write(json.dumps(entry) + "\n")
    except OSError:  # the run is over, and the folder with it
        pass


# A pytest plugin: every test, with the process that ran it.


def pytest_runtest_logstart(nodeid, location):
    _TESTS[nodeid] = (time.time(), _asserts)


def pytest_runtest_logfinish(nodeid, location):
    if "PYTEST_XDIST_WORKER" in os.environ or not _has_workers:
        began, asserts = _TESTS.pop(nodeid)
        _log(test=nodeid, worker=os.getpid(), began=began, seconds=time.time() - began,
             asserts=_asserts - asserts)  # fmt: skip


def pytest_assertion_pass(item, lineno, orig, expl):
    global _asserts
    _asserts += 1


def pytest_configure(config):
    global _has_workers
    _has_workers = bool(getattr(config.option, "numprocesses", None))


_TESTS: dict[str, tuple[float, int]] = {}
_asserts = 0
_has_workers = False


def main(command: list[str]) -> int:
    """Run the command, print the table, return the command's exit code."""
    import shutil
    import site
    import subprocess
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp(prefix="where-time-goes-"))
    pth = Path(site.getsitepackages()[0]) / "where_time_goes.pth"
    shutil.copy(__file__, folder / "test_clock.py")
    pth.write_text(f"{folder}\nimport test_clock; test_clock.start_clock()\n")
    began = time.time()
    try:
        plugins = [os.environ.get("PYTEST_PLUGINS"), "test_clock"]
        environment = os.environ | {"PYTEST_PLUGINS": ",".join(filter(None, plugins))}
        exit_code = subprocess.run(command, env=environment).returncode
    finally:
        pth.unlink()
    entries = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.open()]
    shutil.rmtree(folder, ignore_errors=True)  # a process may end, and note it, only now
    _print_table(entries, time.time() - began)
    return exit_code


def _print_table(entries: list[dict], wall: float) -> None:
    from collections import defaultdict

    columns = (
        "tests",
        "asserts",
        "seconds",
        "processes",
        "their seconds",
        "imports",
        "their CPU seconds",
    )
    files: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(columns, 0))
    tests = [entry for entry in entries if "test" in entry]
    for test in tests:
        row = files[test["test"].partition("::")[0]]
        row["tests"] += 1
        row["asserts"] += test["asserts"]
        row["seconds"] += test["seconds"]
    workers = {test["worker"] for test in tests}
    for process in (entry for entry in entries if "process" in entry):
        if process["process"] in workers:
            continue
        row = files[_file_of(process, tests)]
        row["processes"] += 1
        row["their seconds"] += process["seconds"]
        row["imports"] += process["imports"]
        row["their CPU seconds"] += process["cpu"]
    print(f"\n| file | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    total = {column: sum(row[column] for row in files.values()) for column in columns}
    ordered = sorted(files.items(), key=lambda item: -item[1]["seconds"])
    for name, row in [("all", total), *ordered]:
        print(f"| {name} | {' | '.join(f'{row[column]:.0f}' for column in columns)} |")
    print(f"\n{wall:.0f} s from beginning to end")


def _file_of(process: dict, tests: list[dict]) -> str:
    """The file of the test during which the process began, or "-" outside all tests."""
    for test in tests:
        ends = test["began"] + test["seconds"]
        if test["worker"] in process["ancestors"] and test["began"] <= process["began"] <= ends:
            return test["test"].partition("::")[0]
    return "-"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
