"""Whether a job is better than its strongest baseline: over its seeds and over the test rows."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from textassay.console import counted
from textassay.data.proportion import in_proportion, read_parquet
from textassay.evaluation.bootstrap import EXACT_ROWS, LabelCells
from textassay.evaluation.evaluate import PREDICTED_BY, PREDICTIONS
from textassay.evaluation.gains import Gain, headline_difference, judged, normal_p, swap_p
from textassay.evaluation.intervals import Spread, difference_interval, spread_of
from textassay.evaluation.metrics import HEADLINE

MACRO = HEADLINE.index("macro_f1")


@dataclass(frozen=True)
class JobVerdict:
    """How far the mean macro-F1 of so many seeds is ahead of a baseline's on the same rows."""

    baseline: str
    seeds: int
    rows: int
    ahead: Gain

    @property
    def sentence(self) -> str:
        """One honest sentence."""
        found = ("No detectable difference from", "Better than", "Worse than")
        cost = ": these models are not worth their cost" if self.ahead.direction < 0 else ""
        over = f"{self.seeds} seeds and {counted(self.rows, 'row')}"
        gap = f"{self.ahead.figures('macro-F1')}, over {over}"
        return f"{found[self.ahead.direction]} {self.baseline} ({gap}){cost}."

    def to_json(self) -> dict[str, Any]:
        """What `summary.json` keeps of it."""
        return {"baseline": self.baseline, "macro_f1": asdict(self.ahead), "verdict": self.sentence}


def judge_job(
    folders: Sequence[Path], baselines: Sequence[dict[str, Any]], confidence: float, resamples: int
) -> JobVerdict | None:
    """The verdict over the runs in these folders, which were tested on the same rows.

    None for a single run, without baselines, for runs of an earlier version, and where the rows are
    not the same.
    """
    if len(folders) < 2 or not baselines:
        return None
    strongest = max(baselines, key=lambda one: one["scores"]["macro_f1"]["value"] or 0)["name"]
    columns = _predictions(folders, PREDICTED_BY.format(name=strongest))
    if columns is None:
        return None
    known = pc.unique(pa.chunked_array([chunk for column in columns for chunk in column.chunks]))
    truth, *predictions = (pc.index_in(column, known).to_numpy() for column in columns)
    cells = LabelCells.of(truth, predictions, max(2, len(known)))
    ahead = gain_of_seeds(cells, confidence, resamples)
    return JobVerdict(strongest, len(folders), len(truth), ahead)


def gain_of_seeds(cells: LabelCells, confidence: float, resamples: int) -> Gain:
    """The mean macro-F1 of all classifiers but the last, minus the last one's.

    The seeds are a sample as the rows are: the variance of the mean is that over the rows and, of
    the seeds' own differences, their variance over their number (a little too much, since these
    scatter over the rows as well). Degrees of freedom as Satterthwaite's, p the median over seeds.
    """
    counts = cells.counts(cells.rows[None])
    value = headline_difference(counts)[0]
    rows = spread_of(cells, headline_difference, resamples)
    *seeds, last = counts
    each = np.stack([headline_difference([one, last])[0] for one in seeds])
    of_seeds = each.var(0, ddof=1) / len(seeds)
    of_rows = rows.error**2
    whole = of_seeds + of_rows
    parts = of_seeds**2 / (len(seeds) - 1) + of_rows**2 / rows.freedom
    freedom = np.where(whole > 0, whole**2 / np.maximum(parts, 1e-300), rows.freedom)
    spread = Spread(np.sqrt(whole), rows.lean, np.maximum(freedom, 1), rows.centre)
    low, high = (ends[MACRO] for ends in difference_interval(value, spread, confidence))
    if cells.total > EXACT_ROWS:
        p = normal_p(value, spread)
    else:
        p = statistics.median(swap_p(_pair(cells, seed), resamples) for seed in range(len(seeds)))
    return judged(float(value[MACRO]), float(low), float(high), p, confidence)


def _pair(cells: LabelCells, seed: int) -> LabelCells:
    """One seed's predictions beside the last ones."""
    rows = cells.rows.astype(int)
    columns = (cells.true, cells.predicted[seed], cells.predicted[-1])
    truth, ours, theirs = (np.repeat(column, rows) for column in columns)
    return LabelCells.of(truth, [ours, theirs], cells.labels)


def _predictions(folders: Sequence[Path], of_baseline: str) -> list[pa.ChunkedArray] | None:
    """The true labels, those of each run, those of the baseline; None where rows differ."""
    paths = [folder / PREDICTIONS for folder in folders]
    if not all(path.is_file() for path in paths):
        return None
    if any(of_baseline not in pq.read_schema(path).names for path in paths):
        return None
    with in_proportion(paths):
        first, *rest = (read_parquet(path, ["text", "label", "predicted"]) for path in paths)
    rows = first.select(["text", "label"])
    if any(not rows.equals(other.select(["text", "label"])) for other in rest):
        return None
    baseline = read_parquet(paths[0], [of_baseline])[of_baseline]
    columns = [first["label"], *(table["predicted"] for table in (first, *rest)), baseline]
    return [column.cast(pa.large_string()) for column in columns]
