"""Whether a run taught its model anything, and what to try where it did not."""

import numpy as np

from textassay.evaluation.evaluate import Evaluation
from textassay.evaluation.learned import Learning, judge_learning
from textassay.training.results import Training
from textassay.training.setup import Setup

# With fewer optimizer steps than this, more of them are the first thing to try.
FEW_STEPS = 200


def learning_of(setup: Setup, trained: Training, validated: Evaluation) -> Learning | None:
    """What the validation rows say of it; None where nothing was trained."""
    if setup.run.job.training.is_zero_shot():
        return None
    labels = setup.dataset.labels.ids(setup.dataset.splits["train"]["label"].to_pylist())
    looks = sum("eval_loss" in entry for entry in trained.history)
    return judge_learning(validated, np.array(labels), looks, _advice(setup, trained))


def _advice(setup: Setup, trained: Training) -> str:
    """What to try, the likeliest first."""
    steps, rate = trained.figures["global_step"], setup.run.job.training.learning_rate
    more = f"more training than {steps:,} optimizer steps (--num_train_epochs)"
    other = f"another --learning_rate than {rate:g}, ten times lower or higher"
    first, second = (more, other) if steps < FEW_STEPS else (other, more)
    return (
        f"To try: {first}; {second}; and a look at whether texts and labels belong together. "
        "learning_curves.png shows the loss."
    )
