"""A line of progress every half minute: how many tests are done, and how long the rest may take.

A pytest plugin (`-p tests.progress`, as tests/run.sh starts it). What a file's tests took before,
on whatever machine, stands in tests/seconds.json; how much faster this machine is shows as it runs.
TEXTASSAY_SAVE_SECONDS=1 writes what they take now into that file.
"""

import json
import os
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

RECORD = Path(__file__).with_name("seconds.json")
SECONDS_BETWEEN_LINES = 30
UNKNOWN_SECONDS = 0.1  # a test of a file that is not in the record


def read_record() -> dict[str, dict[str, float]]:
    """{"fast" or "slow": {file: seconds}}."""
    record: dict[str, dict[str, float]] = {"fast": {}, "slow": {}}
    if RECORD.is_file():
        record |= json.loads(RECORD.read_text(encoding="utf-8"))
    return record


class Progress:
    """Counts the reports of this session, of all workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._part = "slow" if config.option.markexpr.startswith("slow") else "fast"
        self._expected = read_record()[self._part]
        self._all: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._took: dict[str, float] = defaultdict(float)
        self._began = self._last_line = time.monotonic()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers: what will run."""
        self._expect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """With workers: each of them collects all that will run."""
        self._expect(ids)

    def _expect(self, ids: list[str]) -> None:
        if ids and not self._all:
            self._all = Counter(_file(nodeid) for nodeid in ids)
            self._left = self._all.copy()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A part of a test has ended."""
        self._took[_file(report.nodeid)] += report.duration
        if report.when != "teardown":
            return
        self._left[_file(report.nodeid)] -= 1
        now = time.monotonic()
        if now - self._last_line > SECONDS_BETWEEN_LINES and self._left.total():
            self._last_line = now
            self._config.get_terminal_writer().line("\n" + self.line(now - self._began))

    def line(self, seconds: float) -> str:
        """What is said after so many seconds."""
        total, left = self._all.total(), self._left.total()
        whole, rest = self._seconds(self._all), self._seconds(self._left)
        pace = seconds / (whole - rest) if whole > rest else 0
        return (
            f"progress   {total - left:,} of {total:,} tests in {_minutes(seconds)}; "
            f"about {_minutes(rest * pace)} left"
        )

    def _seconds(self, tests: Counter[str]) -> float:
        """What so many tests of each file take by the record; it counts them alike."""
        return sum(count * self._expected.get(file, UNKNOWN_SECONDS * self._all[file])
                   / self._all[file] for file, count in tests.items())  # fmt: skip

    def pytest_sessionfinish(self) -> None:
        """Keep the record, where that is wanted."""
        if os.environ.get("TEXTASSAY_SAVE_SECONDS") == "1":
            record = read_record()
            record[self._part] |= {file: round(took, 1) for file, took in self._took.items()}
            ordered = {part: dict(sorted(files.items())) for part, files in record.items()}
            RECORD.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Of several processes the one that starts the others counts."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(config))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
