"""The main job on real rows: SST-2 with MiniLM and LoRA, as `bash train.sh` runs it."""

import subprocess
from pathlib import Path

import pytest
from tests.fork_server import python

from textassay.files import project_root, read_json

pytestmark = [pytest.mark.slow, pytest.mark.real_data]


@pytest.mark.timeout(2400)  # a quarter of an hour on a slow machine with other work on it
def test_sst2_reaches_its_accuracy_on_the_dev_split(real_data: Path, tmp_path: Path) -> None:
    root = project_root()
    command = [
        python(), str(root / "scripts" / "train_batch.py"),
        str(root / "jobs" / "sst2_minilm_lora.yaml"), "--data_path", str(real_data / "sst2"),
        "--seeds", "0", "--output_dir", str(tmp_path),
        # One less than the job has, which is in docs/results.md: 0.884 after it, 0.886 at the end.
        "--num_train_epochs", "3",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    run = tmp_path / "sst2_minilm_lora" / "seed-0"
    evaluated = read_json(run / "eval_results.json")
    assert evaluated["eval_rows"] == 872
    # Three seeds had 0.876 to 0.884; another machine's order of sums moves a few of the 872 rows.
    assert evaluated["eval_accuracy"] >= 0.865
    tested = read_json(run / "test_results.json")
    assert tested["verdict"].startswith("Better than TF-IDF")
    subprocess.run([python(), str(root / "scripts" / "verify.py"), str(run / "model")],
                   check=True)  # fmt: skip
