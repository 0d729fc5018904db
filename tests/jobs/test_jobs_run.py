"""Every job, end to end, on rows of its real data set, with a tiny random model of its family.

A recipe that works learns the rows that it sees. Only model, data, learning rate, steps and how
often it is evaluated differ from the job file; the model's tokenizer is trained on the same rows.
Whether a random model leaves the plateau on which it starts depends on the order of sums, which
differs between machines: what has not learned yet may train again, for longer, then slower.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.models_for_tests import tiny_bert, tiny_gpt2, tiny_llama, tiny_qwen2
from tests.training.zero_processes import train

import textassay
from textassay.artifacts.hallmark import verify
from textassay.config.flag_table import FLAGS
from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.config.schema import DataSection
from textassay.data.load import load_dataset
from textassay.data.split import sample
from textassay.files import project_root
from textassay.training.run import run_training

ROWS = 48
WIDTH = 128
LONGEST = 160  # characters
# Learning rates and steps: those of JOBS; the same for longer; slower and longer still.
ATTEMPTS = ((1, 1), (1, 2), (3, 5))
# job: (family, data set, learning rate, steps)
JOBS: dict[str, tuple[Callable[..., Path], str, float, int]] = {
    "emotion19_bert_dora_rslora": (tiny_bert, "emotion19_zh", 1e-2, 250),
    "weibo_gpt2_adapter": (tiny_gpt2, "weibo_senti_100k", 5e-3, 150),
    "weibo_gpt2_lora": (tiny_gpt2, "weibo_senti_100k", 3e-3, 120),
    "weibo_bert_full": (tiny_bert, "weibo_senti_100k", 1e-3, 40),
    "sst2_llama_full": (tiny_llama, "sst2", 1e-3, 90),
    "sst2_llama_lora": (tiny_llama, "sst2", 3e-3, 90),
    "r8_llama_full": (tiny_llama, "r8", 1e-3, 150),
    "r8_llama_lora": (tiny_llama, "r8", 2e-3, 150),
    "chnsenticorp_qwen_lora": (tiny_qwen2, "chnsenticorp", 5e-3, 150),
    "chnsenticorp_qwen_qlora": (tiny_qwen2, "chnsenticorp", 5e-3, 150),
    "yelp5_bert_lora": (tiny_bert, "sst5", 1e-2, 240),
    "sst2_minilm_full": (tiny_bert, "sst2", 1e-3, 40),
    "sst2_minilm_lora": (tiny_bert, "sst2", 7e-4, 150),
    "sst2_minilm_dora": (tiny_bert, "sst2", 2e-3, 150),
    "sst2_minilm_bottleneck": (tiny_bert, "sst2", 5e-3, 120),
    "r8_minilm_lora": (tiny_bert, "r8", 2e-3, 480),
    "sst5_minilm_lora": (tiny_bert, "sst5", 3e-3, 300),
    "sst2_llama_deepspeed": (tiny_llama, "sst2", 1e-3, 50),
    "r8_llama_deepspeed": (tiny_llama, "r8", 1e-3, 80),
    "sst2_minilm_deepspeed": (tiny_bert, "sst2", 1e-3, 50),
}


@pytest.mark.slow
@pytest.mark.usefixtures("verified_here")
@pytest.mark.parametrize("name", JOBS)
def test_the_job_learns_the_rows_that_it_sees(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    family, data_name, learning_rate, steps = JOBS[name]
    rows = _rows(data_name, request)
    data = _write(tmp_path / "data", rows)
    prompted = "Please carefully read the following reference text, and determine which of the"
    base = family(tmp_path / "base", [prompted, *(row["text"] for row in rows)], 512, WIDTH)
    right = []
    for slower, longer in ATTEMPTS:
        overrides = {
            "data.name": data_name,
            "data.path": str(data),
            "data.text_column": "text",
            "data.label_column": "label",
            "model.model_name_or_path": str(base),
            "training.learning_rate": str(learning_rate / slower),
            "training.max_steps": str(steps * longer),
            # So few rows are an epoch of two or three steps.
            **dict.fromkeys(("training.eval_strategy", "training.save_strategy"), "steps"),
            **dict.fromkeys(("training.eval_steps", "training.save_steps"), steps * longer // 5),
        }
        run = _carry_out(name, tmp_path / f"run-{longer}", overrides)
        right.append(_right(run, rows))
        if right[-1] >= 0.95 * len(rows):
            break
    assert right[-1] >= 0.95 * len(rows), f"{right} of {len(rows)} rows that it has seen"
    assert "probe rows within" in verify(run.model_dir)


def _carry_out(name: str, folder: Path, overrides: dict[str, str]) -> Run:
    """The run of a job; one for DeepSpeed in processes of its own, as many as the job says."""
    job_file = project_root() / "jobs" / f"{name}.yaml"
    job, _ = resolve_job(job_file, None, {}, overrides, None)
    run = Run(job, 0, folder)
    if job.launcher != "deepspeed":
        run_training(run)
        return run
    pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
    flags = {key: flag for flag, key, *_ in FLAGS}
    settings = {flags[key]: value for key, value in overrides.items()}
    train(folder, job.resources.nproc_per_node or 2, job_file, **settings)
    return run


def _right(run: Run, rows: list[dict[str, str]]) -> int:
    """How many of the rows the run's artifact knows."""
    seen = json.loads((run.path / "eval_results.json").read_text())
    assert seen["eval_rows"] == ROWS - 1, "the validation rows are among those seen"
    classifier = textassay.Classifier.load(run.model_dir)
    answers = classifier.predict([row["text"] for row in rows])
    return sum(answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True))


def _rows(data_name: str, request: pytest.FixtureRequest) -> list[dict[str, str]]:
    """Short rows of a real data set, every label among them."""
    path = None
    if data_name != "emotion19_zh":
        path = str(request.getfixturevalue("real_data") / data_name)
    table = load_dataset(DataSection(name=data_name, path=path)).splits["train"]
    short = [len(text) <= LONGEST for text in table["text"].to_pylist()]
    chosen = sample(table.filter(short), ROWS, 0)
    texts, labels = chosen["text"].to_pylist(), chosen["label"].to_pylist()
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]


def _write(folder: Path, rows: list[dict[str, str]]) -> Path:
    """The rows as train, all but one as validation, so that the best checkpoint is the one that
    learned most; and a test row for each label, which chooses nothing.
    """
    folder.mkdir()
    labels = {row["label"]: row for row in rows}
    test = [{**row, "text": f"{row['text']} !"} for row in labels.values()]
    for split, of in (("train", rows), ("validation", rows[1:]), ("test", test)):
        lines = [json.dumps(row, ensure_ascii=False) for row in of]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_every_job_is_run() -> None:
    jobs = {path.stem for path in (project_root() / "jobs").glob("*.yaml")}
    assert jobs - {"quickstart"} == JOBS.keys(), "tests/test_newcomer.py runs the quickstart"
