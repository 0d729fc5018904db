"""transformers' TrainingArguments out of a run."""

import math
import warnings

import torch
from transformers import TrainingArguments

from textassay.config.names import nearest
from textassay.config.runs import Run
from textassay.errors import UsageError, first_line
from textassay.evaluation.metrics import LOWER_IS_BETTER, NAMES
from textassay.training.zero import deepspeed_config, forgo_compiled_kernels, refuse_mismatches


def training_arguments(run: Run, device: torch.device, precision: str) -> TrainingArguments:
    """The library's settings for a run. Raises UsageError for what it refuses."""
    training = run.job.training
    metric = training.metric_for_best_model.removeprefix("eval_")
    if metric not in (*NAMES, "loss"):
        known = nearest(metric, [*NAMES, "loss"])
        raise UsageError(f"training.metric_for_best_model: {metric!r} is no metric; {known}")
    settings = training.library_settings()
    if run.job.model.load_in_4bit:
        settings.setdefault("optim", optimizer_in_4_bits(device.type))
    if run.job.launcher == "deepspeed":
        forgo_compiled_kernels(device)
        settings["deepspeed"] = deepspeed_config(run.job.deepspeed, device)
        if device.type == "cpu":
            settings["ddp_backend"] = "gloo"
    # Rotation is ours (checkpoints.py): the library deletes before the new checkpoint is whole.
    settings.pop("save_total_limit")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arguments = TrainingArguments(
                **{
                    "output_dir": str(run.path),
                    "seed": run.seed,
                    "data_seed": run.seed,
                    "use_cpu": device.type == "cpu",
                    "bf16": precision == "bf16",
                    "fp16": precision == "fp16",
                    "metric_for_best_model": metric,
                    "greater_is_better": metric not in LOWER_IS_BETTER,
                    "label_names": ["labels"],
                    "remove_unused_columns": False,
                    "restore_callback_states_from_checkpoint": True,
                    "logging_nan_inf_filter": False,
                    "disable_tqdm": True,
                    **settings,
                }
            )
    except (ValueError, TypeError) as error:
        first = first_line(error)
        raise UsageError(f"training: transformers refuses the settings: {first}") from None
    if run.job.launcher == "deepspeed":
        refuse_mismatches(arguments, run.job.deepspeed)
    return arguments


def add_epochs(arguments: TrainingArguments, fewest_steps: int, rows: int) -> None:
    """Raise the epochs until so many optimizer steps are taken on these training rows."""
    together = arguments.per_device_train_batch_size * arguments.world_size
    steps = math.ceil(math.ceil(rows / together) / arguments.gradient_accumulation_steps)
    needed = math.ceil(fewest_steps / steps)
    if arguments.max_steps < 0 and needed > arguments.num_train_epochs:
        arguments.num_train_epochs = needed


def optimizer_in_4_bits(device: str) -> str:
    """What QLoRA uses; its paged optimizer exists on GPUs alone."""
    return "adamw_torch" if device == "cpu" else "paged_adamw_8bit"
