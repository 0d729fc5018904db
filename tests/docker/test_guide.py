"""docs/containers.md, block by block as it stands, as a caller whom the images do not know."""

import json
import os
import pty
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.docker.engine import (
    GUIDE,
    ROOT,
    SOMEBODY,
    blocks,
    call,
    docker,
    environment,
    succeed,
    wait_until,
)

from textassay.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.docker]
Guide = Callable[[str], str]
PATIENCE = 120
SECONDS_TO_STOP = 60
# What the tests below and the fixtures run; a block that is not among these would go untested.
USED = (
    "build.sh cpu", "docker run --rm textassay:cpu\n", "train.sh --seeds 123", "eval.sh",
    "predict.py", "clean.py", "serve.py", "docker stop -t 40", "train.sh --seeds 42",
    "docker stop -t 300", "docker start", "-it textassay:cpu bash", "build.sh cuda",
    "--network none textassay:cuda",
)  # fmt: skip


def test_every_block_is_run_by_a_test() -> None:
    assert len(blocks(GUIDE)) == len(USED)
    for having in USED:
        assert len([block for block in blocks(GUIDE) if having in block]) == 1, having


def test_build(engine: str) -> None:
    for kind in ("cpu", "cuda"):
        (block,) = [block for block in blocks(GUIDE) if f"build.sh {kind}" in block]
        succeed(call(["bash", "-ec", f"cd '{ROOT}'\n{block}"]))


def test_an_image_says_what_can_be_run(guide: Guide) -> None:
    said = guide("docker run --rm textassay:cpu\n")
    scripts = {path.name for path in (ROOT / "scripts").glob("*.py")}
    named = set(re.findall(r"^  (\S+)$", said, re.MULTILINE))
    assert named == scripts | {"textassay", "train.sh", "eval.sh"}
    assert f"```\n{said}```" in GUIDE.read_text(encoding="utf-8")


def test_train(trained: tuple[Path, str]) -> None:
    run, said = trained
    assert "report: runs/quickstart/summary.html" in said
    files = [path for path in run.parent.rglob("*") if path.is_file()]
    assert len(files) > 20 and {path.stat().st_uid for path in files} == {SOMEBODY}


def test_evaluate_sealed(trained: tuple[Path, str], guide: Guide) -> None:
    run, _ = trained
    said = guide("eval.sh")
    assert "report: runs/quickstart/seed-123/evaluation/report.html" in said
    own, again = (read_json(place / "test_results.json") for place in (run, run / "evaluation"))
    assert own["test_accuracy"] == again["test_accuracy"] and own["test_rows"] == 215


def test_predict(trained: tuple[Path, str], guide: Guide) -> None:
    answer = json.loads(guide("predict.py"))
    assert answer["predicted"] in answer["probabilities"] and len(answer["probabilities"]) == 5


def test_a_file_of_the_callers(guide: Guide, folder: Path) -> None:
    guide("clean.py")
    assert (folder / "clean.csv").stat().st_uid == SOMEBODY


def test_serve(trained: tuple[Path, str], guide: Guide) -> None:
    name = guide("serve.py").strip()
    try:
        wait_until(lambda: "serving  http" in docker("logs", name).stdout, PATIENCE, "it serves")
        before = time.monotonic()
        said = guide("docker stop -t 40")
        assert time.monotonic() - before < SECONDS_TO_STOP
        answer, *names = said.rsplit("classifier\n", 2)
        assert json.loads(answer)[0]["label"] and names == ["", ""]
    finally:
        docker("rm", "--force", name)


def test_a_shell(cpu_image: str) -> None:
    (block,) = [block for block in blocks(GUIDE) if "-it textassay:cpu bash" in block]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-ec", block], stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
    )
    os.close(theirs)
    os.write(ours, b"echo user $(id -u) in $PWD; exit 3\n")
    assert process.wait(PATIENCE) == 3
    assert b"user 1000 in /work" in os.read(ours, 100_000)


def test_the_cuda_image_trains_without_a_gpu(cuda_image: str) -> None:
    (block,) = [block for block in blocks(GUIDE) if "--network none textassay:cuda" in block]
    done = call(["bash", "-ec", block])
    succeed(done)
    assert "device     cpu" in done.stderr and "report     runs/one/report.html" in done.stderr


def test_stop_and_go_on(trained: tuple[Path, str], guide: Guide, folder: Path) -> None:
    run = folder / "runs" / "quickstart" / "seed-42"
    name = guide("train.sh --seeds 42").strip()
    try:
        wait_until(lambda: any(run.glob("checkpoint-*/complete.json")), PATIENCE, "it trains")
        assert guide("docker stop -t 300") == "training\n75\n"
        assert not (run / "finished.json").exists()
        assert "seed 42" in guide("docker start")
        assert (run / "finished.json").is_file()
    finally:
        docker("rm", "--force", name)
