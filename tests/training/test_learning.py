"""A run that taught its model nothing: how it ends, and where that is said."""

import pytest
from tests.commands_for_tests import ALLOW_UNLEARNED, go_offline, script

from textassay.config.load import resolve_job
from textassay.config.runs import preparing, runs_of
from textassay.errors import GateError, TextassayError
from textassay.evaluation.summary import summarize, unlearned_sentence, write_summary
from textassay.files import read_json, write_json
from textassay.training.batch import refuse_bad_ends

pytestmark = pytest.mark.usefixtures("verified_here")
SENTENCE = "This model did not learn: its validation scores are not detectably above"
SETTINGS = {
    "max_samples": 120, "max_seq_length": 32, "max_steps": 2, "learning_rate": 1e-9,
    "target_modules": "query", "bootstrap_samples": 100, "probe_rows": 2,
}  # fmt: skip


@pytest.mark.slow
def test_it_is_said_first_everywhere_and_ends_with_exit_code_3(
    tiny_base, tmp_path, monkeypatch
) -> None:
    go_offline(monkeypatch, tmp_path / "caches")
    monkeypatch.delenv(ALLOW_UNLEARNED)
    run = tmp_path / "run"
    command = [
        "--data_name=sentiment5_en", f"--model_name_or_path={tiny_base}", f"--output_dir={run}",
        *(f"--{name}={value}" for name, value in SETTINGS.items()),
    ]  # fmt: skip
    ended = script("train_lora")(*command)
    assert ended.exit_code == 3
    *_, report, _verdict, last = ended.stderr.splitlines()
    assert report.startswith("report ") and last.startswith(f"error: {run}: did not learn")
    said = ended.stderr.splitlines()
    (first,) = [number for number, line in enumerate(said) if line.startswith(SENTENCE)]
    assert said[first + 1].startswith("test ")
    assert "To try: more training than 2 optimizer steps" in said[first]
    assert (run / "test_summary.txt").read_text(encoding="utf-8").startswith(SENTENCE)
    for page in (run / "report.html", run / "model" / "README.md"):
        text = page.read_text(encoding="utf-8")
        assert SENTENCE in text and text.index(SENTENCE) < text.index("accuracy")
    assert (run / "finished.json").is_file() and (run / "model" / "hallmark.json").is_file()

    again = script("train_lora")(*command)
    assert again.exit_code == 3 and "is finished" in again.stderr
    assert script("train_lora")(*command, "--allow_unlearned").exit_code == 0
    shown = script("evaluate")(run, f"--output_dir={tmp_path / 'again'}")
    assert shown.exit_code == 0 and shown.stderr.count(SENTENCE) == 1


@pytest.fixture
def seeds(tmp_path):
    """Three finished runs of a job; the second did not learn."""

    def made(**told):
        job, _ = resolve_job(None, None, {}, {"seeds": "0,1,2", **told}, "lora")
        runs = runs_of(job, tmp_path)
        for run, learned in zip(runs, ("yes", "no", "too few rows"), strict=True):
            with preparing(run):
                run.finish({})
            learning = {"learned": learned, "p": 0.5, "needed": 0.01, "sentence": "…"}
            write_json(run.path / "eval_results.json", {"learning": learning})
        return runs

    return made


def test_a_batch_ends_with_exit_code_3_where_a_seed_did_not_learn(seeds) -> None:
    runs = seeds()
    with pytest.raises(GateError, match=r"1 of 3 runs did not learn: \S+/seed-1\. .*--allow_unl"):
        refuse_bad_ends({runs[1].path: 3}, runs)
    with pytest.raises(GateError):  # left alone by a second call
        refuse_bad_ends({}, runs)
    refuse_bad_ends({}, seeds(**{"evaluation.allow_unlearned": "true"}))


def test_a_failure_outweighs_it(seeds) -> None:
    runs = seeds()
    with pytest.raises(TextassayError, match=r"1 of the runs failed: \S+/seed-2 \(exit code 3\)"):
        refuse_bad_ends({runs[1].path: 3, runs[2].path: 3}, runs)


def test_a_jobs_summary_says_it_first(seeds, tmp_path) -> None:
    runs = seeds()
    for run in runs:
        scores = {f"test_{name}": 0.5 for name in ("accuracy", "macro_f1", "log_loss", "ece")}
        intervals = {name.removeprefix("test_"): [0.4, 0.6] for name in scores}
        write_json(run.path / "test_results.json", {
            **scores, "intervals": intervals, "test_rows": 9, "confidence": 0.95, "baselines": [],
            "verdict": "No detectable difference from TF-IDF.",
        })  # fmt: skip
    summary = summarize("adhoc", runs)
    assert summary["unlearned"] == [1]
    said = unlearned_sentence(summary)
    assert said.startswith("1 of 3 runs did not learn (seed 1): ")
    page = write_summary(tmp_path, summary).read_text(encoding="utf-8")
    assert page.index(said) < page.index("mean over seeds")
    assert read_json(tmp_path / "summary.json")["unlearned"] == [1]
