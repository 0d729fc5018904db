"""locks/: what is needed and nothing else, with hashes, and what is installed from elsewhere."""

import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests import lock

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
HASH = re.compile(r"sha256:[0-9a-f]{64}")
# pip's own words.
REFUSED = "THESE PACKAGES DO NOT MATCH THE HASHES"
UNREACHABLE = re.compile(
    "Could not find a version|No matching distribution|ConnectionError|timed out"
)
SMALL = "mdurl"


def read(name: str) -> str:
    return (LOCKS / name).read_text(encoding="utf-8")


def locked(name: str, environment: dict[str, str]) -> set[str]:
    """What pip would take from a lock in an environment, and from those of its `-r` lines."""
    text = read(name)
    found = {each.name for each, _ in lock.entries(text) if lock.holds(each.marker, environment)}
    return found.union(
        *(locked(each, environment) for each in re.findall(r"^-r (\S+)$", text, re.M))
    )


def needed(requirements: list[str], environment: dict[str, str]) -> set[str]:
    """What requirements bring along in an environment, as the packages installed here say."""
    open_ones = [(Requirement(each), "") for each in requirements]
    seen: set[tuple[str, str]] = set()
    while open_ones:
        requirement, of_extra = open_ones.pop()
        if not lock.holds(requirement.marker, environment, of_extra):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for each, extra in seen if each == name}:
            seen.add((name, extra))
            open_ones += [(each, extra) for each in _requires(name)]
    return {name for name, _ in seen}


@cache
def _requires(name: str) -> list[Requirement]:
    try:
        return [Requirement(each) for each in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return []  # of another platform


def _environment_name(environment: dict[str, str]) -> str:
    return "-".join(
        environment[key] for key in ("sys_platform", "platform_machine", "python_version")
    )


def _needs_everything() -> None:
    try:
        for name in ("deepspeed", "bitsandbytes", "onnx", "fastapi", "schemathesis"):
            metadata.version(name)
    except metadata.PackageNotFoundError as error:
        assert os.environ.get("TEXTASSAY_CI") != "1", error
        pytest.skip(f"{error.name} is not installed; it comes with the extra `tests`")


@pytest.mark.parametrize("environment", lock.environments(), ids=_environment_name)
@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_a_lock_holds_what_is_needed_and_nothing_else(
    extra: str, environment: dict[str, str]
) -> None:
    _needs_everything()
    wanted = list(PYPROJECT["project"]["dependencies"])
    files = {"core.txt", "torch.txt"}
    if extra:
        wanted += lock.extras_flattened(EXTRAS, extra)
        files |= {f"{extra}.txt"}
    if extra in ("deepspeed", "tests"):
        files |= {"deepspeed-source.txt"}
    found = set().union(*(locked(name, environment) for name in files))
    # PyPI's build of torch, which alone brings these, is not installed here.
    cuda = locked("torch.txt", environment) - {"torch"}
    assert bool(cuda) == (environment["sys_platform"] == "linux")
    assert found - cuda == needed(wanted, environment)


def test_each_entry_has_one_version_and_hashes() -> None:
    files = sorted(LOCKS.iterdir())
    assert len(files) == len(EXTRAS) + 6
    for path in files:
        text = path.read_text(encoding="utf-8")
        found = list(lock.entries(text))
        assert found, path.name
        for requirement, hashes in found:
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
            assert hashes and all(map(HASH.fullmatch, hashes)), requirement
        options = re.findall(r"^-.*", text, re.MULTILINE)
        assert all(re.fullmatch(r"-r [a-z]+\.txt", each) for each in options), path.name


def test_versions_are_those_of_the_constraints() -> None:
    pins = {
        canonicalize_name(requirement.name): str(requirement.specifier)
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
        for requirement in [Requirement(line)]
    }
    found = {
        (requirement.name, str(requirement.specifier))
        for path in LOCKS.iterdir()
        for requirement, _ in lock.entries(path.read_text(encoding="utf-8"))
    }
    assert pins.items() <= found
    assert all(pins.get(name, version) == version for name, version in found)
    (backend,) = PYPROJECT["build-system"]["requires"]
    assert {backend, f"setuptools{pins['setuptools']}"} <= {
        str(requirement) for requirement, _ in lock.entries(read("build.txt"))
    }


def test_pip_refuses_another_file_than_the_locked_one(tmp_path: Path) -> None:
    """From the index itself, since another than pip would prove nothing."""
    (entry,) = re.findall(rf"^{SMALL}==.*?[^\\]\n", read("core.txt"), re.MULTILINE | re.DOTALL)
    right = _install(tmp_path / "right", entry)
    if right.returncode != 0 and UNREACHABLE.search(right.stderr):
        assert os.environ.get("TEXTASSAY_CI") != "1", right.stderr
        pytest.skip("no package index answers")
    assert right.returncode == 0, right.stderr
    assert (tmp_path / "right" / SMALL / "__init__.py").is_file()
    flipped = re.sub(
        r"sha256:(.)", lambda found: f"sha256:{'1' if found[1] == '0' else '0'}", entry
    )
    assert flipped != entry
    wrong = _install(tmp_path / "wrong", flipped)
    assert wrong.returncode != 0 and REFUSED in wrong.stderr
    assert not (tmp_path / "wrong").exists()


def _install(target: Path, entry: str) -> subprocess.CompletedProcess[str]:
    file = target.with_suffix(".txt")
    file.write_text(entry, encoding="utf-8")
    command = ["install", "--no-deps", "--require-hashes", "--no-cache-dir", "--retries", "1",
               "--target", str(target), "--requirement", str(file)]  # fmt: skip
    return subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, text=True)


def pip_commands(path: Path) -> list[str]:
    """What a script has pip fetch, install or build."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    parts = re.split(r"&&|;|\n", re.sub(r"^\s*#.*", "", text, flags=re.MULTILINE))
    command = re.compile(r"((\S+ -m )?pip\b.* (install|wheel|download) .*)")
    return [" ".join(found[1].split()) for each in parts if (found := command.search(each))]


def test_nothing_is_installed_but_by_its_hash() -> None:
    """Else from files that were built of what has one, and the exceptions that are told of."""
    told_of = {
        # A file of this machine, which somebody put in pip's way.
        '"$PYTHON" -m pip install --no-deps "torch==$version"',
        # Another build for GPUs, where one is asked for.
        'pip wheel --wheel-dir /wheels --find-links /wheels --index-url "${TORCH_INDEX}" '
        "--constraint constraints.txt torch",
    }
    patterns = (
        "*.sh",
        "docker/*.sh",
        "docker/*.Dockerfile",
        "scripts/*.sh",
        "slurm/*",
        "tests/*.sh",
    )
    scripts = [path for pattern in patterns for path in ROOT.glob(pattern)]
    commands = {each for path in scripts for each in pip_commands(path)}
    hashed = {each for each in commands if "--require-hashes" in each}
    built = {each for each in commands if each.endswith(("wheels/*.whl", " .", " --target lib ."))}
    # What is only said, and what only asks.
    harmless = {each for each in commands if each.startswith('install="') or "--dry-run" in each}
    assert (len(hashed), len(built), len(harmless)) == (8, 4, 2)
    assert commands == hashed | built | harmless | told_of
    assert all("--no-deps" in each for each in hashed | built)
    assert not any("--extra-index-url" in path.read_text(encoding="utf-8") for path in scripts)


def test_what_a_page_of_pytorchs_index_says() -> None:
    wheels = {
        "torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl": "a",
        "torch-2.13.0-cp311-cp311-macosx_14_0_arm64.whl": "b",
        "torch-2.13.0%2Bcpu-cp311-cp311-win_amd64.whl": "c",
        "torch-2.13.0%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl": "d",
        "torch-2.13.01%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl": "e",
        "torch-2.12.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl": "f",
    }
    page = "".join(
        f'<a href="/whl/cpu/{name}#sha256={digit * 64}" data-core-metadata="sha256={"9" * 64}">'
        for name, digit in wheels.items()
    )
    assert lock.cpu_hashes(page, "2.13.0") == ["a" * 64, "b" * 64]


def test_markers_that_hold_everywhere_are_left_out() -> None:
    everywhere = "python_full_version < '3.15' and sys_platform in 'linux darwin'"
    text = "a==1 ; {} \\\n    --hash=sha256:0\n"
    assert lock.without_needless_markers(text.format(everywhere)) == text.replace(" ; {}", "")
    linux = "platform_system == 'Linux' and python_full_version < '3.15'"
    assert lock.without_needless_markers(text.format(linux)) == text.format(lock.LINUX)
    other = "platform_machine == 'x86_64'"
    assert lock.without_needless_markers(text.format(other)) == text.format(other)


DOCKER = """#!/usr/bin/env bash
case "$1" in
  buildx) [[ -n $DIGEST ]] && echo "$DIGEST" ;;
  build) printf '%s\\n' "$@" ;;
esac
"""


KNOWN = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("base", "answer", "built_on", "digest"),
    [
        pytest.param("", KNOWN, f"python:3.11-slim-bookworm@{KNOWN}", KNOWN, id="told"),
        pytest.param("", "", "python:3.11-slim-bookworm", "unknown", id="no answer"),
        pytest.param("", "some error", "python:3.11-slim-bookworm", "unknown", id="error"),
        pytest.param("mine@sha256:1", KNOWN, "mine@sha256:1", "sha256:1", id="named"),
    ],
)
def test_an_image_is_built_on_what_its_label_says(
    base: str, answer: str, built_on: str, digest: str, tmp_path: Path
) -> None:
    """Docker is played by a script, which has the registry's answer."""
    docker = tmp_path / "docker"
    docker.write_text(DOCKER, encoding="utf-8")
    docker.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "DIGEST": answer,
        "TEXTASSAY_BASE_IMAGE": base,
    }
    done = subprocess.run(
        ["bash", str(ROOT / "docker" / "build.sh"), "cpu"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    asked = [line for line in done.stdout.splitlines() if line.startswith("BASE_")]
    assert asked == [f"BASE_IMAGE={built_on}", f"BASE_DIGEST={digest}"]
