"""What the images hold, and how a program in them ends."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from tests.docker.engine import (
    IMAGE_USER,
    ROOT,
    SEALED,
    SOMEBODY,
    call,
    docker,
    give,
    run,
    succeed,
    wait_until,
)

import textassay
from textassay.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.docker]
LIMIT = 2.2e9
TRAIN = ("--data_name", "sentiment5_en", "--model_name_or_path",
         "sentence-transformers/all-MiniLM-L6-v2", "--output_dir", "runs/one")  # fmt: skip
RUN = Path("runs/quickstart/seed-0")
RUNS_IN_MEMORY = ("--tmpfs", "/work/runs:mode=1777")
# A compiler, what was downloaded, CUDA.
UNWANTED = r"""
for name in gcc g++ cc clang nvcc make; do command -v "$name"; done
find / -xdev \( -path /proc -o -path /sys \) -prune -o \( \
  -name 'torch-*.whl' -o -path '*/.cache/pip' -o -path '/var/lib/apt/lists/*_Packages' \
  -o -path '/var/cache/apt/archives/*.deb' -o -name 'libcu[bdfs]*.so*' -o -name 'libnv*.so*' \
  -o -name '*_cuda[0-9]*.so' \) -print 2>/dev/null
true
"""


@pytest.fixture(params=["cpu_image", "cuda_image"])
def image(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue(request.param)
    return name


def inspect(image: str) -> dict[str, object]:
    (found,) = json.loads(succeed(docker("image", "inspect", image)))
    return dict(found)


def test_labels_and_user(image: str) -> None:
    config = inspect(image)["Config"]
    assert isinstance(config, dict)
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["version"] == textassay.__version__ and labels["title"] == "textassay"
    head = call(["git", "-C", str(ROOT), "rev-parse", "HEAD"]).stdout.strip() or "unknown"
    assert labels["revision"].removesuffix("-changed") == head
    # The gate's engine has a base of its own, which no registry knows.
    assert labels["name"].partition("@")[0] == "python:3.11-slim-bookworm"
    assert re.fullmatch(r"unknown|sha256:[0-9a-f]{64}", labels["digest"])
    assert config["User"] == f"{IMAGE_USER}:{IMAGE_USER}"
    assert set(config["Volumes"]) == {"/cache"}


def test_the_cpu_image_is_small_and_holds_nothing_else(cpu_image: str) -> None:
    # What it takes on disk. An engine may count the layers as they are packed.
    unpacked = ("du", "--summarize", "--bytes", "--one-file-system", "/")
    size = int(succeed(run("--network", "none", "--user", "0", cpu_image, *unpacked)).split()[0])
    layers = inspect(cpu_image)["Size"]
    assert isinstance(layers, int) and 1e9 < size <= LIMIT and layers <= LIMIT
    assert succeed(run("--network", "none", "--user", "0", cpu_image, "bash", "-c", UNWANTED)) == ""


def test_what_must_not_be_found_would_be_found(cuda_image: str) -> None:
    found = succeed(run("--network", "none", "--user", "0", cuda_image, "bash", "-c", UNWANTED))
    assert "libcublas.so" in found and "libbitsandbytes_cuda130.so" in found
    assert "/gcc" not in found and ".whl" not in found and "/pip" not in found


def test_train_and_evaluate_as_the_images_own_user(cpu_image: str, folder: Path) -> None:
    """Sealed; an untested copy of the run gets the same results inside and outside."""
    if os.geteuid() not in (0, IMAGE_USER):
        pytest.skip(f"only root can make a folder for user {IMAGE_USER} to write to")
    inside, outside = folder / "inside", folder / "outside"
    (inside / "runs").mkdir(parents=True)
    give(inside, IMAGE_USER)
    mounted = ("-v", f"{inside}/runs:/work/runs")
    few = ("--seeds", "0", "--max_steps", "3", "--max_samples", "120")
    succeed(run(*SEALED, *mounted, cpu_image, "train.sh", *few))
    (inside / RUN / "test_results.json").unlink()
    shutil.copytree(inside, outside)

    said = succeed(run(*SEALED, *mounted, cpu_image, "eval.sh", str(RUN)))
    script = [sys.executable, str(ROOT / "scripts" / "evaluate.py"), str(RUN)]
    assert succeed(call(script, outside)) == said
    found, wanted = (read_json(place / RUN / "test_results.json") for place in (inside, outside))
    assert found == wanted and found["test_rows"] > 20


def test_a_folder_in_the_place_of_work_keeps_its_runs(cpu_image: str, folder: Path) -> None:
    mine = folder / "mine"
    mine.mkdir()
    rows = [f"{word} number {n},{word}" for n in range(60) for word in ("good", "bad")]
    (mine / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    give(mine, SOMEBODY)
    command = ("train_lora.py", "--data_path", "rows.csv", *TRAIN[2:], "--max_steps", "2")
    sealed = (*SEALED, "--user", f"{SOMEBODY}:{SOMEBODY}", "-v", f"{mine}:/work")
    succeed(run(*sealed, cpu_image, *command))
    made = mine / "runs" / "one" / "finished.json"
    assert made.is_file() and made.stat().st_uid == SOMEBODY
    assert "the model" in succeed(run(*sealed, cpu_image, "eval.sh", "runs/one"))


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("train.sh", "--learning_rte", "1"), 2, "learning_rate"),
        (("scripts/train_lora.py", "--data_path", "/work/bad.csv", *TRAIN[2:]), 65, "bad.csv"),
        (("predict",), 2, "neither a script"),
        (("bash", "-c", "exit 7"), 7, ""),
    ],
)  # fmt: skip
def test_exit_codes(
    command: tuple[str, ...], code: int, says: str, cpu_image: str, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\none,good\ntwo\n", encoding="utf-8")
    sealed = (*SEALED, *RUNS_IN_MEMORY, "-v", f"{bad}:/work/bad.csv:ro")
    done = run(*sealed, cpu_image, *command)
    assert done.returncode == code, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_signal_ends_what_does_not_heed_it(cpu_image: str) -> None:
    name = succeed(docker("run", "--detach", cpu_image, "sleep", "600")).strip()
    try:
        before = time.monotonic()
        succeed(docker("stop", "-t", "60", name))
        assert time.monotonic() - before < 30
        assert succeed(docker("wait", name)) == "143\n"
    finally:
        docker("rm", "--force", "--volumes", name)


def test_four_bits_train_on_a_cpu_and_stop_with_a_checkpoint(cpu_image: str) -> None:
    """As the image's user."""
    often = ("--save_strategy", "steps", "--save_steps", "2", "--eval_strategy", "steps",
             "--eval_steps", "2", "--max_steps", "500", "--max_samples", "120")  # fmt: skip
    command = ("train_lora.py", "--use_qlora", *TRAIN, *often)
    name = succeed(docker("run", "--detach", *SEALED, *RUNS_IN_MEMORY, cpu_image, *command)).strip()
    try:
        first = "runs/one/checkpoint-2/complete.json"
        wait_until(lambda: docker("exec", name, "test", "-f", first).returncode == 0, 120, first)
        succeed(docker("kill", "--signal", "TERM", name))
        assert succeed(docker("wait", name)) == "75\n", docker("logs", name).stderr
        assert "stopped by SIGTERM" in docker("logs", name).stderr
    finally:
        docker("rm", "--force", "--volumes", name)


def test_every_script_has_help_in_the_cuda_image(cuda_image: str) -> None:
    names = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
    assert len(names) > 10
    for name in (*names, "train.sh", "eval.sh"):
        assert succeed(run(*SEALED, cuda_image, name, "--help")).startswith("Usage: "), name
