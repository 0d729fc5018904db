"""What all tests share: a plain environment, files written in one line, the public data sets."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.commands_for_tests import ALLOW_UNLEARNED
from tests.fork_server import forked_command
from tests.verifying_for_tests import verifying_here

# The gate must give the same answer twice; at a desk new examples are welcome. Nothing is timed.
# A test that writes files overwrites them with every example, so one tmp_path serves them all.
settings.register_profile(
    "textassay",
    deadline=None,
    derandomize=os.environ.get("TEXTASSAY_CI") == "1",
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("textassay")


# Not in a fixture: fixtures of a whole session start commands too.
os.environ[ALLOW_UNLEARNED] = "true"

# Begun first, so that no process is left with one of them at the end: files and whole folders.
LONGEST = {"training", "jobs", "real", "test_deploy.py", "test_migrating.py", "test_newcomer.py"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--without-slow=FILE`, for tests/changed.py."""
    told = "leave the slow tests of this file out; may be given several times"
    parser.addoption("--without-slow", action="append", default=[], metavar="FILE", help=told)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first, else as they stand."""
    items.sort(key=lambda item: LONGEST.isdisjoint({item.path.name, item.path.parent.name}))
    without = set(config.getoption("--without-slow"))
    named = [item for item in items if item.nodeid.partition("::")[0] in without]
    left_out = {item for item in named if item.get_closest_marker("slow")}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell reaches a job of the tests."""
    for name in list(os.environ):
        if name.startswith("TEXTASSAY_") and "__" in name and name != ALLOW_UNLEARNED:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def verified_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process publishes is verified in another one, which need not import everything."""
    monkeypatch.setattr("textassay.artifacts.fresh_process.python_command", forked_command)


@pytest.fixture
def verified_here() -> Iterator[None]:
    """What this process publishes is verified without another one."""
    with verifying_here():
        yield


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """`write("train.csv", content)`: a file under tmp_path, folders included; text as UTF-8."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the public data sets; the gate (TEXTASSAY_CI=1) does not go without it."""
    named = os.environ.get("TEXTASSAY_REAL_DATA")
    if named and Path(named).is_dir():
        return Path(named)
    reason = "TEXTASSAY_REAL_DATA names no folder with the public data sets"
    if os.environ.get("TEXTASSAY_CI") == "1":
        pytest.fail(f"{reason}, and the gate must read them")
    pytest.skip(reason)
