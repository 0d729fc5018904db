"""A run goes on, and a finished one is left alone, only on the inputs that it was begun with."""

import json

import pytest
from tests.models_for_tests import tiny_bert
from tests.stored_runs_for_tests import rows_csv

from textassay.config.load import resolve_job
from textassay.config.runs import CONFIG, PROVENANCE, Run, preparing
from textassay.data.load import load_dataset
from textassay.errors import UsageError
from textassay.files import write_json
from textassay.models.source import find_model
from textassay.training import inputs
from textassay.training.inputs import find_inputs, is_left_alone, refuse_changed_inputs


@pytest.fixture
def run(tmp_path):
    """A finished run on a file, of a model that nobody trained."""
    base = tiny_bert(tmp_path / "base", [rows_csv(0)])
    (tmp_path / "rows.csv").write_text(rows_csv(0))
    told = {"data.path": str(tmp_path / "rows.csv"), "model.model_name_or_path": str(base)}
    job, _ = resolve_job(None, None, {}, told, "lora")
    run = Run(job, 0, tmp_path / "run")
    with preparing(run, inputs_now(run)):
        run.finish({})
    return run


@pytest.fixture(autouse=True)
def no_memory():
    """Each call reads the data anew, as another process would."""
    inputs._read_data.cache_clear()


def inputs_now(run):
    base = find_model(run.job.model.model_name_or_path)
    return find_inputs(run.job, load_dataset(run.job.data), base)


def append_a_row(run):
    with (run.path.parent / "rows.csv").open("a", encoding="utf-8") as file:
        file.write("a film that nobody has seen,good\n")


def swap_labels(run):
    path = run.path.parent / "rows.csv"
    path.write_text(
        path.read_text().replace("good", "?").replace("bad", "good").replace("?", "bad")
    )


def change_weights(run):
    path = run.path.parent / "base" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def change_config(run):
    path = run.path.parent / "base" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_dropout_prob": 0.3}))


def change_tokenizer(run):
    path = run.path.parent / "base" / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase": true', '"lowercase": false'))


CHANGES = [
    (append_a_row, "the train rows"), (swap_labels, "the train rows, the validation rows and the "
     "test rows"), (change_weights, "the weights of the base model"),
    (change_config, "the config.json of the base model"), (change_tokenizer, "the tokenizer"),
]  # fmt: skip


def test_the_same_inputs_are_left_alone(run, capsys):
    assert is_left_alone(run)
    refuse_changed_inputs(run, inputs_now(run))
    assert "is finished; --force runs it again" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "named"), CHANGES)
def test_what_changed_is_named(change, named, run):
    change(run)
    with pytest.raises(UsageError, match=f"is finished, but {named}.* changed since"):
        is_left_alone(run)
    with pytest.raises(UsageError, match=f"{named}.* changed since this run was begun"):
        refuse_changed_inputs(run, inputs_now(run))


def test_data_that_cannot_be_read_any_more_are_said_and_stop_nobody(run, capsys):
    (run.path.parent / "rows.csv").unlink()
    assert is_left_alone(run)
    assert "cannot be compared" in capsys.readouterr().err


def test_of_an_older_run_its_provenance_tells(run):
    """It has no inputs in its config.yaml, and nothing says which tokenizer it had."""
    now = inputs_now(run)
    config = run.path / CONFIG
    lines = config.read_text().splitlines(keepends=True)
    first, last = lines.index("inputs:\n"), lines.index("seed: 0\n")
    config.write_text("".join(lines[:first] + lines[last:]))
    splits = ("train", "validation", "test")
    write_json(
        run.path / PROVENANCE,
        {
            "base": {"name": "base", "weights": now["base_weights"]},
            "data": {
                "rows": {split: now[split]["rows"] for split in splits},
                "fingerprints": {split: now[split]["sha256"] for split in splits},
            },
        },
    )
    assert is_left_alone(run)
    change_tokenizer(run)
    assert is_left_alone(run)
    append_a_row(run)
    inputs._read_data.cache_clear()
    with pytest.raises(UsageError, match="the train rows"):
        is_left_alone(run)
    (run.path / PROVENANCE).unlink()
    assert is_left_alone(run)
