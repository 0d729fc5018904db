"""What the experiment trackers that a user asked for are sent, said before the training."""

import os
from collections.abc import Sequence

# By these variables a tracker's user has it sent the weights as well.
WITH_WEIGHTS = {
    "wandb": "WANDB_LOG_MODEL",
    "mlflow": "HF_MLFLOW_LOG_ARTIFACTS",
    "dagshub": "HF_DAGSHUB_LOG_ARTIFACTS",
    "comet_ml": "COMET_LOG_ASSETS",
    "dvclive": "HF_DVCLIVE_LOG_MODEL",
    "swanlab": "SWANLAB_LOG_MODEL",
}
# It is sent every checkpoint unless this variable is false.
CLEARML = "CLEARML_LOG_MODEL"
OFF = {"", "0", "false", "no", "off"}


def what_is_sent(trackers: Sequence[str]) -> list[str]:
    """A sentence for each tracker: what it gets of the run."""
    return [f"{name} {_what(name)}" for name in trackers]


def _what(tracker: str) -> str:
    if tracker == "tensorboard":
        return "writes settings, label names, losses and scores to files, and sends nothing"
    sent = (
        "is sent settings, label names, losses and scores while it trains, with your login, and "
        "what its client collects, such as the command line"
    )
    variable = WITH_WEIGHTS.get(tracker)
    if variable and os.environ.get(variable, "").lower() not in OFF:
        return f"{sent}; the weights too, since {variable} is set"
    if tracker == "clearml" and os.environ.get(CLEARML, "true").lower() not in OFF:
        return f"{sent}; the weights too, unless {CLEARML}=false"
    if tracker == "flyte":
        return f"{sent}; the checkpoints too"
    return f"{sent}; no texts, and no weights"
