"""All seeds of a job side by side: each, their mean and spread, and the baselines."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from textassay.config.identity import changed_inputs
from textassay.config.runs import Run, inputs_of_run
from textassay.console import alarm, counted, out, table, tell
from textassay.errors import UsageError
from textassay.evaluation.gains import Gain
from textassay.evaluation.job_verdict import JobVerdict, judge_job
from textassay.evaluation.learned import did_not_learn
from textassay.evaluation.metrics import HEADLINE
from textassay.evaluation.outputs import RESULTS
from textassay.evaluation.report import write_job_summary
from textassay.files import read_object, write_json

SHOWN = (*HEADLINE, "log_loss", "ece")


def summarize(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Figures of every finished run of a job, mean and sample standard deviation over the seeds.

    The baselines do not depend on the seed, so one run's are everybody's. UsageError where finished
    runs had other data, another base model or tokenizer than each other.
    """
    _refuse_other_inputs(name, [run for run in runs if run.is_finished()])
    finished = [(run, read_object(run.path / RESULTS)) for run in runs
                if run.is_finished() and (run.path / RESULTS).is_file()]  # fmt: skip
    figures = {}
    for metric in SHOWN:
        values = [results[f"test_{metric}"] for _, results in finished]
        known = [value for value in values if value is not None]
        figures[metric] = {
            "mean": statistics.fmean(known) if known else None,
            "sd": statistics.stdev(known) if len(known) > 1 else None,
        }
    found = _judge([run for run, _ in finished], [results for _, results in finished])
    return {
        "job": name,
        "rows": finished[0][1]["test_rows"] if finished else 0,
        "seeds": [
            {
                "seed": run.seed,
                "path": str(run.path),
                "scores": {metric: results[f"test_{metric}"] for metric in SHOWN},
                "intervals": results["intervals"],
                "verdict": results["verdict"],
            }
            for run, results in finished
        ],
        "verdict": found.to_json() if found else None,
        "unlearned": [run.seed for run, _ in finished if did_not_learn(run.path)],
        "failed": [run.seed for run in runs if not run.is_finished()],
        "untested": [
            run.seed for run in runs if run.is_finished() and not (run.path / RESULTS).is_file()
        ],
        "figures": figures,
        "baselines": finished[0][1]["baselines"] if finished else [],
        "confidence": finished[0][1]["confidence"] if finished else None,
    }


def _judge(runs: Sequence[Run], results: Sequence[dict[str, Any]]) -> JobVerdict | None:
    """The verdict over all seeds, where there is more than one."""
    if not runs:
        return None
    first, settings = results[0], runs[0].job.evaluation
    folders = [run.path for run in runs]
    return judge_job(folders, first["baselines"], first["confidence"], settings.bootstrap_samples)


def _refuse_other_inputs(name: str, finished: Sequence[Run]) -> None:
    for run in finished[1:]:
        first = finished[0]
        changed = changed_inputs(inputs_of_run(first.path), inputs_of_run(run.path))
        if changed:
            raise UsageError(
                f"{name}: has no summary, since its seeds had different inputs: "
                f"{', '.join(changed)} differ between seed {first.seed} (then) and seed {run.seed} "
                "(now). Train all of them on the same ones, in another --output_dir, or here with "
                "--force."
            )


def write_summary(folder: Path, summary: dict[str, Any]) -> Path:
    """`summary.json` and `summary.html` in the job's folder; the path of the page."""
    write_json(folder / "summary.json", summary)
    page = folder / "summary.html"
    write_job_summary(
        page, alarm=unlearned_sentence(summary), standing=_standing(summary), summary=summary,
        metrics=SHOWN, headline=HEADLINE,
    )  # fmt: skip
    return page


def _standing(summary: dict[str, Any]) -> int:
    """1, -1 or 0: better than the baseline, worse, or neither that these rows and seeds tell."""
    return Gain(**summary["verdict"]["macro_f1"]).direction if summary["verdict"] else 0


def publish_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write the page and print what it says: the table, the verdicts, the place."""
    page = write_summary(folder, summary)
    if sentence := unlearned_sentence(summary):
        alarm(sentence)
    out().print(summary_table(summary))
    if summary["verdict"]:
        tell(f"all seeds: {summary['verdict']['verdict']}")
    for seed in summary["seeds"]:
        tell(f"seed {seed['seed']}: {seed['verdict']}")
    tell(f"report: {page}")


def unlearned_sentence(summary: dict[str, Any]) -> str:
    """Which seeds did not learn; empty where all did."""
    if not summary["unlearned"]:
        return ""
    seeds = ", ".join(map(str, summary["unlearned"]))
    return (
        f"{len(summary['unlearned'])} of {counted(len(summary['seeds']), 'run')} did not learn "
        f"(seed {seeds}):"
        " their validation scores are not detectably above those of the majority class. Their "
        "reports say what to try."
    )


def summary_table(summary: dict[str, Any]) -> Table:
    """The summary for the terminal."""
    level = f"{summary['confidence']:.0%}" if summary["confidence"] else ""
    rows = []
    for seed in summary["seeds"]:
        cells = [_with_interval(seed["scores"][m], seed["intervals"][m]) for m in HEADLINE]
        rest = [_plain(seed["scores"][m]) for m in SHOWN if m not in HEADLINE]
        rows.append([f"seed {seed['seed']}", *cells, *rest])
    if len(summary["seeds"]) > 1:
        rows.append(["mean ± sd", *(_spread(summary["figures"][m]) for m in SHOWN)])
    for baseline in summary["baselines"]:
        scores = baseline["scores"]
        cells = [
            _with_interval(scores[m]["value"], [scores[m]["low"], scores[m]["high"]])
            for m in HEADLINE
        ]
        rest = [_plain(scores[m]["value"]) for m in SHOWN if m not in HEADLINE]
        rows.append([baseline["name"], *cells, *rest])
    title = f"{summary['job']}: test, {counted(summary['rows'], 'row')}, {level} intervals"
    return table(title, ["", *SHOWN], rows)


def _with_interval(value: float | None, bounds: Sequence[float | None]) -> str:
    if value is None:
        return "undefined"
    low, high = bounds
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if low is not None else f"{value:.3f}"


def _plain(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _spread(figure: dict[str, float | None]) -> str:
    if figure["mean"] is None:
        return "undefined"
    return f"{figure['mean']:.3f} ± {figure['sd'] or 0:.3f}"
