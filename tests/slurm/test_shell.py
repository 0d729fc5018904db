"""What the sbatch files do before Python is there: the site's ways, and what is missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from textassay.files import project_root

COMMON = project_root() / "slurm" / "common.sh"
SRUN = [
    "srun", "--wait=0", "--kill-on-bad-exit=0", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1",
]  # fmt: skip
SHOWN = 'printf "%s\\n" "${command[@]}"'


def shell(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Bash with common.sh, in a folder that is the checkout, with hardly any variables."""
    return subprocess.run(
        ["bash", "-Eeuo", "pipefail", "-c", f'source "{COMMON}"; root={folder}; {code}'],
        cwd=folder, env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True,
    )  # fmt: skip


def line(folder: Path, **variables: str) -> list[str]:
    """The words of the step's command line."""
    begun = "runtime=$TEXTASSAY_SLURM_RUNTIME; find_python; use_scratch"
    call = f"{begun}; step_command 2 some.module --flag 'two words'; {SHOWN}"
    done = shell(call, folder, **{"HOME": str(folder), **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def mounted(folder: Path, caches: Path) -> str:
    """What a container sees in any case; it finds the caches made."""
    seen = (folder, caches / "huggingface", caches / "textassay")
    return ",".join(f"{path}:{path}" for path in seen)


def test_the_site_file_fills_what_the_environment_leaves_open(tmp_path, write) -> None:
    write("slurm/site.env", "# a comment\n#A=1\nSBATCH_ACCOUNT=mine\nSBATCH_QOS=low\nEXTRA=a b=c\n")
    code = 'load_site; printf "%s|" "$SBATCH_ACCOUNT" "$SBATCH_QOS" "$EXTRA"; env | grep -c QOS'
    assert shell(code, tmp_path, SBATCH_QOS="high").stdout == "mine|high|a b=c|1\n"
    other = write("other.env", "SBATCH_ACCOUNT=theirs")
    code = 'load_site; printf %s "$SBATCH_ACCOUNT"'
    assert shell(code, tmp_path, TEXTASSAY_SLURM_SITE=str(other)).stdout == "theirs"


def test_every_line_of_the_example_is_one_that_is_read(tmp_path, write) -> None:
    example = (project_root() / "slurm" / "site.env.example").read_text(encoding="utf-8")
    lines = [found[1:] for found in example.splitlines() if found[:1] == "#" and found[1:2] > " "]
    assert len(lines) > 8
    write("slurm/site.env", "\n".join(lines))
    known = shell("load_site; env", tmp_path).stdout.splitlines()
    assert [found for found in lines if found not in known] == []


def test_every_variable_of_the_site_is_explained_where_it_is_read_and_in_the_guide() -> None:
    names = set(re.findall(r"TEXTASSAY_SLURM_[A-Z]+", COMMON.read_text(encoding="utf-8")))
    assert len(names) == 7
    guide = (project_root() / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"`{name}`" not in guide] == []


def test_without_a_container_the_active_environments_python_is_called(tmp_path) -> None:
    words = line(tmp_path, TEXTASSAY_SLURM_RUNTIME="none", VIRTUAL_ENV=sys.prefix)
    python = f"{sys.prefix}/bin/python"
    assert words == [*SRUN, python, "-P", "-m", "some.module", "--flag", "two words"]


def test_apptainer_is_called_by_srun(tmp_path) -> None:
    variables = {
        "TEXTASSAY_SLURM_RUNTIME": "apptainer", "TEXTASSAY_SLURM_IMAGE": "image.sif",
        "TEXTASSAY_SLURM_MOUNTS": "/more", "TEXTASSAY_SLURM_SCRATCH": str(tmp_path / "scratch"),
        "TEXTASSAY_DATA_DIR": "/data",
    }  # fmt: skip
    bound = mounted(tmp_path, tmp_path / "scratch") + ",/data:/data,/more:/more"
    wanted = [
        *SRUN,
        "apptainer", "exec", "--pwd", str(tmp_path), "--bind", bound, "image.sif",
        "python", "-P", "-m", "some.module", "--flag", "two words",
    ]  # fmt: skip
    assert line(tmp_path, **variables) == wanted
    wanted.insert(wanted.index(bound) + 1, "--nv")
    assert line(tmp_path, SLURM_JOB_GPUS="0,1", **variables) == wanted


def test_pyxis_is_a_matter_of_flags_of_srun(tmp_path) -> None:
    assert line(tmp_path, TEXTASSAY_SLURM_RUNTIME="pyxis", TEXTASSAY_SLURM_IMAGE="registry#image",
                TEXTASSAY_SLURM_PYTHON="/opt/python") == [
        *SRUN,
        "--container-image=registry#image", f"--container-workdir={tmp_path}",
        f"--container-mounts={mounted(tmp_path, tmp_path / '.cache')}",
        "--container-env=HF_HOME,TEXTASSAY_CACHE",
        "/opt/python", "-P", "-m", "some.module", "--flag", "two words",
    ]  # fmt: skip


def test_a_container_does_not_find_what_the_nodes_own_python_would(tmp_path) -> None:
    inherited = {"PYTHONPATH": "/cluster/lib", "PYTHONHOME": "/cluster", "TEXTASSAY_HOME": "/clone"}
    code = "find_runtime; env"
    variables = {"TEXTASSAY_SLURM_RUNTIME": "pyxis", "TEXTASSAY_SLURM_IMAGE": "image", **inherited}
    left = shell(code, tmp_path, **variables)
    known = {word.partition("=")[0] for word in left.stdout.splitlines()}
    assert "PATH" in known and not inherited.keys() & known
    kept = shell(code, tmp_path, **inherited).stdout.splitlines()
    assert {f"{name}={value}" for name, value in inherited.items()} <= set(kept)


def test_the_first_python_that_has_the_package_is_taken(tmp_path, write) -> None:
    bare = write("conda/bin/python", "#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    variables = {"CONDA_PREFIX": str(tmp_path / "conda"), "TEXTASSAY_SLURM_RUNTIME": "none"}
    assert f"{tmp_path}/.venv/bin/python" in line(tmp_path, **variables)
    assert f"{sys.prefix}/bin/python" in line(tmp_path, VIRTUAL_ENV=sys.prefix, **variables)


def test_scratch_takes_the_caches_but_not_the_login_at_the_hub(tmp_path) -> None:
    scratch = tmp_path / "scratch"
    code = 'runtime=none; use_scratch; printf "%s|" "$HF_HOME" "$TEXTASSAY_CACHE" "$HF_TOKEN_PATH"'
    variables = {"HOME": "/home/me", "TEXTASSAY_SLURM_SCRATCH": str(scratch)}
    said = shell(code, tmp_path, **variables).stdout
    assert said == (f"{scratch}/huggingface|{scratch}/textassay|/home/me/.cache/huggingface/token|")
    assert (scratch / "huggingface").is_dir() and (scratch / "textassay").is_dir()


def test_a_shell_that_knows_no_modules_is_told_of_them(tmp_path, write) -> None:
    write("modules/init/bash", 'module() { echo "$1 $2 ${unset_by_them}"; }\n')
    variables = {"MODULESHOME": str(tmp_path / "modules"), "TEXTASSAY_SLURM_MODULES": "cuda/12 gcc"}
    done = shell("load_modules", tmp_path, **variables)
    assert (done.returncode, done.stdout) == (0, "load cuda/12 \n"), done.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, r".venv/bin/python is no Python with textassay"),
        ({"TEXTASSAY_SLURM_PYTHON": "/nowhere/python"}, "/nowhere/python is no Python"),
        ({"TEXTASSAY_SLURM_RUNTIME": "podman"}, "podman is not none, apptainer or pyxis"),
        ({"TEXTASSAY_SLURM_RUNTIME": "pyxis"}, "TEXTASSAY_SLURM_IMAGE: pyxis needs"),
        ({"TEXTASSAY_SLURM_MODULES": "cuda/12"}, "knows no command module"),
        ({"TEXTASSAY_SLURM_SCRATCH": "/proc/nowhere", "TEXTASSAY_PYTHON": sys.executable},
         "/proc/nowhere cannot be written to"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_before_anything_starts(tmp_path, variables, said) -> None:
    inside = {"SLURM_JOB_ID": "1", "SLURM_NNODES": "1"}
    done = shell(f'begin "{tmp_path}"', tmp_path, **inside, **variables)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.parametrize("name", ["train", "eval", "summary", "deepspeed_r8"])
def test_an_sbatch_file_that_bash_runs_says_how_it_is_submitted(name) -> None:
    done = subprocess.run(["bash", f"slurm/{name}.sbatch", "jobs/quickstart.yaml"],
                          cwd=project_root(), env={"PATH": os.environ["PATH"]},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"submit it with: sbatch slurm/{name}.sbatch" in done.stderr


@pytest.mark.parametrize("name", ["train", "eval", "summary", "deepspeed_r8"])
def test_an_sbatch_file_that_is_sent_from_elsewhere_says_so(tmp_path, name) -> None:
    file = project_root() / "slurm" / f"{name}.sbatch"
    done = subprocess.run(["bash", file], cwd=tmp_path, env={"PATH": os.environ["PATH"]},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 2 and "submit from the checkout" in done.stderr
    directives = [found for found in file.read_text().splitlines() if found.startswith("#SBATCH")]
    assert "#SBATCH --requeue" in directives and "#SBATCH --open-mode=append" in directives
    assert name == "summary" or "#SBATCH --signal=B:USR1@120" in directives
