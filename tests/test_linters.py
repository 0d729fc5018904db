"""Shell scripts, Dockerfiles and the workflow are clean."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def lint(tool: str, *arguments: str) -> None:
    """Run a linter of this environment; the gate (TEXTASSAY_CI=1) needs them all."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(tool, path=beside)
    if found is None and os.environ.get("TEXTASSAY_CI") != "1":
        pytest.skip(f"{tool} is not installed; it comes with the extra `tests`")
    assert found is not None, f"{tool} is not installed, and the gate must run it"
    # actionlint looks for shellcheck on the path.
    environment = {**os.environ, "PATH": f"{beside}:{os.environ['PATH']}"}
    done = subprocess.run(
        [found, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files(*patterns: str) -> list[str]:
    found = [str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)]
    assert len(found) >= len(patterns)
    return sorted(found)


def test_dockerfiles() -> None:
    lint("hadolint", *files("docker/*.Dockerfile"))


def test_shell_scripts() -> None:
    folders = ("", ".ci/", "scripts/", "tests/", "docker/", "slurm/")
    scripts = files(*(f"{folder}*.sh" for folder in folders), "slurm/*.sbatch")
    lint("shellcheck", "--external-sources", ".ci/run", *scripts)


def test_workflow() -> None:
    lint("actionlint", *files(".github/workflows/*.yml"))


def test_actions_are_named_by_commit() -> None:
    """A tag can be moved; the release stands behind it for whoever reads."""
    for name in files(".github/workflows/*.yml"):
        used = re.findall(r"uses: *(.*)", (ROOT / name).read_text(encoding="utf-8"))
        assert len(used) > 3
        for action in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_hooks_run_what_the_environment_has() -> None:
    """Hooks of other repositories would be fetched by a tag, and run."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
