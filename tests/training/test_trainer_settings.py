"""What fields of TrainingArguments do in a training: each does what its name says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainingArguments

from textassay.config.library_fields import TRAINING_ARGUMENTS
from textassay.config.names import KINDS
from textassay.config.schema import TrainingSection
from textassay.config.trainer_fields import LIMITS
from textassay.errors import UsageError
from textassay.training.setup import assemble
from textassay.training.trainer import build_trainer

CONTEXTS = ("fork", "spawn", "forkserver")


def trainer_for(run):
    setup = assemble(run)
    return build_trainer(setup.model, setup.tokenizer, setup.rows(), setup.arguments,
                         run.job.training, "")  # fmt: skip


def order(trainer):
    """The token ids of each row, as they come."""
    batches = [(b["input_ids"], b["attention_mask"]) for b in trainer.get_train_dataloader()]
    return [tuple(ids[mask.bool()].tolist()) for rows, masks in batches
            for ids, mask in zip(rows, masks, strict=True)]  # fmt: skip


def test_dropping_incomplete_batches_drops_no_row_from_a_score(make_run):
    sizes = {"training__per_device_train_batch_size": 15, "training__per_device_eval_batch_size": 7}
    trainer = trainer_for(make_run(training__dataloader_drop_last=True, **sizes))
    rows = len(trainer.eval_dataset)
    assert rows % 7
    assert sum(len(batch["labels"]) for batch in trainer.get_eval_dataloader()) == rows
    batches = [len(batch["labels"]) for batch in trainer.get_train_dataloader()]
    assert len(trainer.train_dataset) % 15 and set(batches) == {15}
    scores = trainer.evaluate()
    assert np.isclose(scores["eval_accuracy"] * rows, round(scores["eval_accuracy"] * rows))


def test_the_data_seed_orders_the_rows_and_changes_nothing_else(make_run):
    first, same, other = (trainer_for(make_run(training__data_seed=seed)) for seed in (1, 1, 2))
    assert order(first) == order(same) != order(other)
    assert sorted(order(first)) == sorted(order(other))
    weights = [trainer.model.state_dict() for trainer in (first, other)]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
    assert order(trainer_for(make_run(training__data_seed=0))) == order(trainer_for(make_run()))


@pytest.mark.parametrize("prefix", ["", "eval_"])
@pytest.mark.parametrize("metric", ["loss", "macro_f1", "ece"])
def test_a_metric_may_have_the_librarys_prefix(metric, prefix, make_run):
    arguments = assemble(make_run(training__metric_for_best_model=prefix + metric)).arguments
    assert arguments.metric_for_best_model == metric
    assert arguments.greater_is_better == (metric == "macro_f1")


def test_a_metric_that_the_validation_rows_leave_undefined_is_refused(make_run, write):
    rows = {"train": "text,label\n" + "good film,a\nbad film,b\n" * 10,
            "validation": "text,label\nfine food,a\nwarm food,a\n",
            "test": "text,label\nlong film,a\ndull film,b\n"}  # fmt: skip
    files = {
        f"data__{split}_file": str(write(f"{split}.csv", text)) for split, text in rows.items()
    }
    told = {"data__name": None, **files, "training__metric_for_best_model": "roc_auc"}
    with pytest.raises(UsageError, match="roc_auc is not defined on these 2 validation rows"):
        assemble(make_run(**told))
    assemble(make_run(**{**told, "training__metric_for_best_model": "macro_f1"}))


# Of each kind, what somebody might write; None is no value.
WRITTEN = {
    "bool": st.sampled_from([True, False, "true", "2", "", None]),
    "int": st.one_of(
        st.integers(-3, 40), st.sampled_from([10**30, 1.5, "7", "x", True, [1], None])
    ),
    "float": st.one_of(
        st.floats(-2, 50), st.sampled_from([float("nan"), float("inf"), 1e308, "x", True, None])
    ),
    "str": st.sampled_from(
        ["no", "steps", "sgd", "adafactor", "paged_adamw_8bit", "x=1", "fork", "all", "", 3, None]
    ),
    "list": st.sampled_from([[], ["x"], "a,b", 3, {"a": 1}]),
    "dict": st.sampled_from([{}, {"a": 1}, {"min_lr": 1e-6}, '{"power": 2}', "{", "a", 3, [1]]),
}
OUR_KINDS = {"int": (int,), "float": (float,), "bool": (bool,)}


def _strategy(name):
    kinds = TRAINING_ARGUMENTS.get(name, "str").split("|")
    return st.one_of(*(WRITTEN[kind] for kind in kinds if kind in WRITTEN and kind in KINDS))


@pytest.fixture(scope="module")
def module_run(tiny_base, tmp_path_factory):
    from tests.training.conftest import run_on

    folder = tmp_path_factory.mktemp("fields")
    return lambda **told: run_on(tiny_base, folder / "run", **told)


@pytest.mark.slow
@settings(max_examples=60)
@given(data=st.data())
def test_whatever_a_field_is_set_to_trains_or_is_refused_before(data, module_run):
    """One step, one evaluation, and one of the library's fields or ours with any value."""
    names = sorted({*LIMITS, *TrainingSection.model_fields} - {"torch_compile", "report_to",
                   "torch_compile_backend", "torch_compile_mode", "max_steps"})  # fmt: skip
    name = data.draw(st.sampled_from(names))
    value = data.draw(_strategy(name))
    told = {"training__max_steps": 2, "training__per_device_train_batch_size": 4,
            f"training__{name}": value}  # fmt: skip
    if name == "dataloader_num_workers" and value not in (0, -1, None, "x"):
        return
    try:
        trainer = trainer_for(module_run(**told))
    except UsageError as error:
        assert len(str(error)) < 600 and "Traceback" not in str(error)
        return
    trainer.args.save_strategy = "no"
    assert isinstance(trainer.args, TrainingArguments)
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"])
