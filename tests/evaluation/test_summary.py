"""A summary is over seeds that had the same inputs, or there is none."""

import pytest

from textassay.config.load import resolve_job
from textassay.config.runs import preparing, runs_of
from textassay.errors import UsageError
from textassay.evaluation.summary import summarize


def finished_with(tmp_path, *inputs):
    """Runs of one job, a seed for each of these inputs, finished and not tested yet."""
    job, _ = resolve_job(None, None, {}, {"name": "job", "seeds": "0,1,2"}, "lora")
    runs = runs_of(job, tmp_path)
    for run, content in zip(runs, inputs, strict=False):
        with preparing(run, content):
            run.finish({})
    return runs


def splits(train):
    return {"train": {"rows": 20, "sha256": train}, "tokenizer": "t"}


def test_seeds_that_had_other_data_have_no_summary(tmp_path):
    runs = finished_with(tmp_path, splits("a"), splits("a"), splits("b"))
    with pytest.raises(UsageError, match=r"the train rows differ between seed 0 .* and seed 2"):
        summarize("job", runs)
    assert summarize("job", runs[:2])["untested"] == [0, 1]


def test_what_an_older_run_did_not_write_down_is_not_compared(tmp_path):
    runs = finished_with(tmp_path, splits("a"), {})
    assert summarize("job", runs)["failed"] == [2]
