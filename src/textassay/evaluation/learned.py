"""Whether training taught a model anything that its validation rows can show.

A model that did not learn answers with one label, or with labels that have nothing to do with the
texts. Its macro-F1 may still be above the majority class's, since guessing at random has a higher
one; its accuracy may be above or below by chance. What tells them apart is agreement: how many
answers are right, of all that would be right if the same answers were dealt out to the rows at
random. For two labels that is Fisher's exact test, one-sided. What answers one label only, as
majority does, agrees by chance exactly.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textassay.console import counted
from textassay.errors import GateError
from textassay.evaluation.metrics import confusion_metrics, confusions
from textassay.files import read_object

if TYPE_CHECKING:
    from textassay.evaluation.evaluate import Evaluation

VALIDATED = "eval_results.json"
# What chance may pass for learning. Each evaluation while training is another chance, and the best
# of them is what is judged, so each gets a share (Bonferroni); a hundred are no longer a hundred
# different models.
LEVEL = 0.05
MOST_LOOKS = 100
DEALS, AT_ONCE = 9999, 909
# So many rows are dealt out one by one; beyond, the sum is normal.
DEALT_ROWS = 1000
TOO_FEW, NO, YES = "too few rows", "no", "yes"


@dataclass(frozen=True)
class Learning:
    """`learned` is yes, no, or too few rows to tell; `sentence` says it, and is empty for yes.

    `p` is the probability that chance agrees as often, `needed` what it must not be above.
    """

    learned: str
    p: float
    needed: float
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """What `eval_results.json` keeps of it."""
        return asdict(self)


def judge_learning(
    validated: "Evaluation", train_labels: np.ndarray, looks: int, advice: str
) -> Learning:
    """Whether the validation scores are detectably above those of the majority class in train.

    `looks` is how often training evaluated; `advice` is what to try, as a sentence.
    """
    truth, predicted, names = validated.truth, validated.predicted, validated.labels.names
    count = len(names)
    needed = LEVEL / min(max(looks, 1), MOST_LOOKS)
    p = chance_agreement(truth, predicted, count)
    if p <= needed:
        return Learning(YES, p, needed, "")
    majority = int(np.bincount(train_labels, minlength=count).argmax())
    both = np.stack([predicted, np.full_like(truth, majority)])
    scores = confusion_metrics(confusions(truth, both, count))
    (ours, theirs), (f1, its) = scores["accuracy"], scores["macro_f1"]
    figures = (
        f"accuracy {ours:.3f}, macro-F1 {f1:.3f} on {counted(len(truth), 'row')}; always answering "
        f"{names[majority]!r}: {theirs:.3f}, {its:.3f}"
    )
    if ours > theirs and chance_agreement(truth, truth, count) > needed:
        told = (
            f"Whether this model learned anything cannot be told: {len(truth):,} validation rows "
            f"are too few, even if all were right ({figures})."
        )
        return Learning(TOO_FEW, p, needed, told)
    told = (
        "This model did not learn: its validation scores are not detectably above those of the "
        f"majority class ({figures}). {advice}"
    )
    return Learning(NO, p, needed, told)


def chance_agreement(truth: np.ndarray, predicted: np.ndarray, labels: int) -> float:
    """The probability that as many answers are right when they are dealt out to rows at random.

    Label ids of shape [rows]. Exact for two labels, from 9,999 deals for more, and by the normal
    distribution with the exact mean and variance (Hoeffding 1951) beyond 1,000 rows.
    """
    from scipy.stats import hypergeom, norm

    true, given = (np.bincount(ids, minlength=labels) for ids in (truth, predicted))
    used, rows = np.flatnonzero(true + given), len(truth)
    hits = int(np.count_nonzero(truth == predicted))
    if np.count_nonzero(true) < 2 or np.count_nonzero(given) < 2:
        return 1.0
    if len(used) == 2:
        first = int(np.count_nonzero((truth == used[0]) & (predicted == used[0])))
        return float(hypergeom.sf(first - 1, rows, true[used[0]], given[used[0]]))
    if rows > DEALT_ROWS:
        mean, deviation = _agreement_by_chance(true, given)
        return float(norm.sf((hits - 0.5 - mean) / deviation))
    random = np.random.default_rng(0)
    as_many = 0
    for _ in range(DEALS // AT_ONCE):
        dealt = random.permuted(np.tile(predicted.astype(np.int32), (AT_ONCE, 1)), axis=1)
        as_many += int(np.count_nonzero((dealt == truth).sum(1) >= hits))
    return (1 + as_many) / (1 + DEALS)


def _agreement_by_chance(true: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the right answers, of `true` and `given` rows a label."""
    true, given = true.astype(np.float64), given.astype(np.float64)
    rows, pairs = true.sum(), (true * given).sum()
    squares = (true * given**2).sum() + (given * true**2).sum()
    variance = (pairs - squares / rows + pairs**2 / rows**2) / (rows - 1)
    return float(pairs / rows), float(np.sqrt(variance))


def stored_learning(folder: Path) -> Learning | None:
    """What a run wrote down of it; None where nothing was trained, or by an earlier version."""
    path = folder / VALIDATED
    found = read_object(path).get("learning") if path.is_file() else None
    try:
        return Learning(**found) if found else None
    except TypeError:
        raise GateError(f"{path}: `learning` is not what a run writes; it was changed.") from None


def did_not_learn(folder: Path) -> bool:
    """Whether the run in this folder says that its model did not learn."""
    learning = stored_learning(folder)
    return learning is not None and learning.learned == NO


def refuse_unlearned(folder: Path, allowed: bool) -> None:
    """GateError where the run in this folder did not learn and that is not allowed."""
    if did_not_learn(folder) and not allowed:
        raise GateError(
            f"{folder}: did not learn, see its report. The artifact is there all the same; "
            "--allow_unlearned takes it for a success."
        )
