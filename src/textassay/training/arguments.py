"""transformers' TrainingArguments out of a run."""

import math
import os
import warnings

import numpy as np
import torch
from transformers import SchedulerType, TrainingArguments
from transformers.trainer_utils import IntervalStrategy
from transformers.training_args import OptimizerNames

from textassay.config.names import nearest
from textassay.config.runs import Run
from textassay.config.trainer_fields import FIXED
from textassay.console import counted, warn
from textassay.errors import UsageError, first_line
from textassay.evaluation.metrics import LOWER_IS_BETTER, NAMES, point_scores
from textassay.files import cache_folder
from textassay.training.ranks import init_process_group
from textassay.training.trying import try_settings
from textassay.training.zero import deepspeed_config, forgo_compiled_kernels, refuse_mismatches

CHOICES = {"optim": OptimizerNames, "lr_scheduler_type": SchedulerType}
# Of what is fixed, what the library would do otherwise, or might.
PASSED_ON = ("remove_unused_columns", "restore_callback_states_from_checkpoint",
             "logging_nan_inf_filter")  # fmt: skip
# With these `accelerate launch` chooses how weights are sharded. They stay in a shell, or in a job
# that calls a script of ours; which launcher shards is ours to choose.
LEFTOVERS = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM")


def ignore_leftovers() -> None:
    """Take variables of `accelerate launch` out of the environment, and say which were set."""
    for name in LEFTOVERS:
        if os.environ.pop(name, "").lower() in ("1", "true", "yes", "y", "on", "t"):
            warn(f"{name} is set and ignored: of the launchers only train_deepspeed.py shards")


def keep_kernels_to_ourselves() -> None:
    """Let torch keep what it compiles, and runs again, in our cache.

    It would keep it below /tmp, by a name that anybody can take first.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("compiled")))


def training_arguments(run: Run, device: torch.device, precision: str) -> TrainingArguments:
    """The library's settings for a run. Raises UsageError for what it refuses."""
    training = run.job.training
    metric = training.metric_for_best_model.removeprefix("eval_")
    if metric not in (*NAMES, "loss"):
        known = nearest(metric, [*NAMES, "loss"])
        raise UsageError(f"training.metric_for_best_model: {metric!r} is no metric; {known}")
    settings = training.library_settings()
    for name, choices in CHOICES.items():
        if name in settings and settings[name] not in list(choices):
            known = nearest(settings[name], [choice.value for choice in choices])
            raise UsageError(f"training.{name}: {settings[name]!r} is not one of them; {known}")
    follows = metric not in LOWER_IS_BETTER
    if settings.pop("greater_is_better", follows) != follows:
        raise UsageError(
            f"training.greater_is_better: is always {str(follows).lower()} with "
            f"metric_for_best_model {metric}; leave it out."
        )
    if run.job.model.load_in_4bit:
        settings.setdefault("optim", optimizer_in_4_bits(device.type))
    if run.job.launcher != "deepspeed":  # without effect there, and refused by the library
        settings.pop("ddp_backend", None)
        ignore_leftovers()
    else:
        forgo_compiled_kernels(device)
        settings["deepspeed"] = deepspeed_config(run.job.deepspeed, device)
        if device.type == "cpu":
            settings["ddp_backend"] = "gloo"
    if settings.get("torch_compile"):
        keep_kernels_to_ourselves()
    # Rotation is ours (checkpoints.py): the library deletes before the new checkpoint is whole.
    settings.pop("save_total_limit")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if run.job.launcher == "deepspeed":
                backend = settings.get("ddp_backend") or "nccl"
                timeout = settings.get("ddp_timeout") or TrainingArguments.ddp_timeout
                init_process_group(backend, timeout)
            arguments = TrainingArguments(
                **{
                    "output_dir": str(run.path),
                    "seed": run.seed,
                    "data_seed": run.seed,
                    "use_cpu": device.type == "cpu",
                    "bf16": precision == "bf16",
                    "fp16": precision == "fp16",
                    "greater_is_better": follows,
                    "label_names": ["labels"],
                    **{name: fixed.value for name, fixed in FIXED.items() if name in PASSED_ON},
                    "disable_tqdm": True,
                    **settings,
                    "metric_for_best_model": metric,
                }
            )
    except (ValueError, TypeError) as error:
        first = first_line(error)[:300]
        raise UsageError(f"training: transformers refuses the settings: {first}") from None
    if run.job.launcher == "deepspeed":
        refuse_mismatches(arguments, run.job.deepspeed)
    try_settings(arguments, device)
    return arguments


def refuse_undefined_metric(arguments: TrainingArguments, truth: list[int], labels: int) -> None:
    """UsageError where no checkpoint could be the best: ROC AUC on validation rows of one label."""
    metric = arguments.metric_for_best_model
    if metric != "loss" and metric not in point_scores(
        np.array(truth), np.zeros((len(truth), labels))
    ):
        raise UsageError(
            f"training.metric_for_best_model: {metric} is not defined on these {len(truth)} "
            "validation rows, which have one label alone; choose macro_f1, or other validation "
            "rows."
        )


def settle_steps(arguments: TrainingArguments, fewest_steps: int, rows: int) -> list[str]:
    """Raise the epochs until so many optimizer steps are taken on these training rows.

    Returns notes on what does not fit that many steps. UsageError where there would be no step, or
    no evaluation, so that no checkpoint would be the best.
    """
    an_epoch = _steps_of_an_epoch(arguments, rows)
    needed = math.ceil(fewest_steps / an_epoch)
    if arguments.max_steps < 0 and needed > arguments.num_train_epochs:
        arguments.num_train_epochs = needed
    steps = arguments.max_steps
    if steps < 0:
        steps = math.ceil(arguments.num_train_epochs * an_epoch)
    by_epoch = arguments.eval_strategy == IntervalStrategy.EPOCH
    end = steps / an_epoch if by_epoch else steps
    if arguments.eval_delay > end:
        unit = "epochs" if by_epoch else "steps"
        raise UsageError(
            f"training.eval_delay: {arguments.eval_delay:g} {unit} is behind the end of the "
            f"training ({end:g} {unit}), so that no checkpoint would be evaluated; lower it."
        )
    warmup = arguments.get_warmup_steps(steps)
    if warmup < steps or arguments.lr_scheduler_type == SchedulerType.CONSTANT:
        return []
    return [f"training.warmup_steps is {warmup} and the training has {counted(steps, 'step')}, so "
            "the learning rate does not reach training.learning_rate"]  # fmt: skip


def _steps_of_an_epoch(arguments: TrainingArguments, rows: int) -> int:
    """Optimizer steps of one pass over the training rows."""
    together = arguments.per_device_train_batch_size * arguments.world_size
    drops_last = arguments.dataloader_drop_last
    batches = rows // together if drops_last else math.ceil(rows / together)
    if not batches:
        raise UsageError(
            f"training.dataloader_drop_last: the {rows} training rows are fewer than a batch "
            f"({together}), so that all are dropped; lower training.per_device_train_batch_size."
        )
    return math.ceil(batches / arguments.gradient_accumulation_steps)


def optimizer_in_4_bits(device: str) -> str:
    """What QLoRA uses; its paged optimizer exists on GPUs alone."""
    return "adamw_torch" if device == "cpu" else "paged_adamw_8bit"
