"""What becomes of those fields of TrainingArguments that the schema does not declare itself.

Each of them stands in one of three tables, which a test holds to the library: it is decided
ELSEWHERE, or its value is FIXED, or the Trainer does what its name says within its LIMITS.
"""

from typing import Any, NamedTuple

from textassay.config.limits import (
    ANY,
    BELOW_1,
    FROM_0,
    FROM_1,
    POSITIVE,
    Limit,
    one_of,
    refuse_outside,
)
from textassay.config.names import as_kind, nearest

NO_UPLOAD = "nothing: a run uploads nothing; upload its model/ with `hf upload NAME RUN/model`"
NO_DDP = "nothing: over several processes DeepSpeed trains, not DDP"
NO_FSDP = "nothing: over several processes DeepSpeed trains (launcher: deepspeed)"

# What TrainingArguments calls by these names is decided elsewhere in a job.
ELSEWHERE = {
    "output_dir": "the flag --output_dir",
    "resume_from_checkpoint": "the flag --resume_from_checkpoint",
    "seed": "`seeds` at the top of the job",
    "use_cpu": "resources.device",
    "deepspeed": "deepspeed.config_file (--deepspeed FILE)",
    "local_rank": "whoever starts the processes",
    "label_names": "nothing: the label column is data.label_column (--label_column)",
    "length_column_name": "nothing: a text's length is the number of its tokens",
    "accelerator_config": "nothing: resuming relies on how rows become batches",
    "parallelism_config": NO_FSDP,
    "fsdp": NO_FSDP,
    "fsdp_config": NO_FSDP,
    "ddp_find_unused_parameters": NO_DDP,
    "ddp_bucket_cap_mb": NO_DDP,
    "ddp_broadcast_buffers": NO_DDP,
    "ddp_static_graph": NO_DDP,
    "debug": "nothing: a loss that is not a number stops the run",
    "include_for_metrics": "nothing: metrics need predictions and labels alone",
    "hub_model_id": NO_UPLOAD,
    "hub_strategy": NO_UPLOAD,
    "hub_token": NO_UPLOAD,
    "hub_private_repo": NO_UPLOAD,
    "hub_always_push": NO_UPLOAD,
    "hub_revision": NO_UPLOAD,
}


class Fixed(NamedTuple):
    """The one value that a field has, and why."""

    value: Any
    reason: str


# A job may say what holds anyway, as settings copied from elsewhere do, and nothing else.
FIXED = {
    "bf16_full_eval": Fixed(False, "evaluation is in fp32"),
    "fp16_full_eval": Fixed(False, "evaluation is in fp32"),
    "load_best_model_at_end": Fixed(True, "the best checkpoint is always the one that is saved"),
    "enable_jit_checkpoint": Fixed(True, "SIGTERM and SIGUSR1 always save a checkpoint"),
    "remove_unused_columns": Fixed(False, "rows hold what the model needs"),
    "auto_find_batch_size": Fixed(False, "a run keeps its batch size, so that it can be resumed"),
    "logging_nan_inf_filter": Fixed(False, "a loss that is not a number stops the run"),
    "prediction_loss_only": Fixed(False, "the best checkpoint is chosen by its predictions"),
    "eval_do_concat_batches": Fixed(True, "metrics are computed of all validation rows"),
    "batch_eval_metrics": Fixed(False, "metrics are computed of all validation rows"),
    "save_only_model": Fixed(False, "a checkpoint holds all that resuming needs"),
    "save_on_each_node": Fixed(False, "the main process saves, where every node can read"),
    "push_to_hub": Fixed(False, NO_UPLOAD.removeprefix("nothing: ")),
    "ignore_data_skip": Fixed(False, "a resumed run sees the rows that are left"),
    "restore_callback_states_from_checkpoint": Fixed(True, "resuming is exact"),
    "dataloader_in_order": Fixed(True, "a run can be repeated"),
    "do_train": Fixed(True, "a run trains, validates and tests"),
    "do_eval": Fixed(True, "a run trains, validates and tests"),
    "do_predict": Fixed(True, "a run trains, validates and tests"),
}


SEED = Limit(lambda value: 0 <= value < 2**32, "between 0 and 4294967295")
LEVEL = one_of("debug", "info", "warning", "error", "critical", "detail", "passive")

# Optimizer, schedule and tracker are made once before data are read (training/trying.py).
LIMITS = {
    "lr_scheduler_kwargs": ANY,
    "optim": ANY,
    "optim_args": ANY,
    "optim_target_modules": ANY,
    "adam_beta1": BELOW_1,
    "adam_beta2": BELOW_1,
    "adam_epsilon": POSITIVE,
    "average_tokens_across_devices": ANY,
    "greater_is_better": ANY,  # training/arguments.py knows which metrics fall
    "label_smoothing_factor": BELOW_1,
    "tf32": ANY,
    "activation_checkpointing": ANY,
    "activation_checkpointing_kwargs": ANY,
    "gradient_checkpointing_kwargs": ANY,
    "torch_compile": ANY,
    "torch_compile_backend": ANY,
    "torch_compile_mode": one_of(
        "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"
    ),
    "use_liger_kernel": ANY,
    "liger_kernel_config": ANY,
    "use_cache": ANY,
    "neftune_noise_alpha": FROM_0,
    "torch_empty_cache_steps": FROM_1,
    "full_determinism": ANY,
    "data_seed": SEED,
    "logging_strategy": one_of("no", "steps", "epoch"),
    "logging_first_step": ANY,
    "log_on_each_node": ANY,
    "include_num_input_tokens_seen": one_of("no", "all", "non_padding", True, False),
    "log_level": LEVEL,
    "log_level_replica": LEVEL,
    "disable_tqdm": ANY,
    "skip_memory_metrics": ANY,
    "run_name": ANY,
    "project": ANY,
    "trackio_space_id": ANY,
    "trackio_bucket_id": ANY,
    "trackio_static_space_id": ANY,
    "eval_delay": FROM_0,
    "eval_on_start": ANY,
    "eval_use_gather_object": ANY,
    "eval_accumulation_steps": FROM_1,
    "dataloader_drop_last": ANY,
    "dataloader_num_workers": Limit(lambda value: 0 <= value <= 1024, "between 0 and 1024"),
    "dataloader_pin_memory": ANY,
    "dataloader_persistent_workers": ANY,
    "dataloader_prefetch_factor": FROM_1,
    "dataloader_multiprocessing_context": one_of("fork", "spawn", "forkserver"),
    "ddp_backend": one_of("nccl", "gloo", "mpi", "ccl", "hccl", "cncl", "mccl"),
    "ddp_timeout": POSITIVE,
}


def trainer_fields(given: dict[str, Any], kinds: dict[str, str], own: list[str]) -> dict[str, Any]:
    """`given` as TrainingArguments wants it, without what says the value that is FIXED anyway.

    `kinds` are the library's fields, `own` the schema's names. A ValueError that begins with the
    field refuses what cannot be.
    """
    fields = {}
    for key, value in given.items():
        if key in ELSEWHERE:
            raise ValueError(f"{key} is set by {ELSEWHERE[key]}, not under training")
        if key not in FIXED and key not in LIMITS:
            known = nearest(key, [*FIXED, *LIMITS, *own])
            raise ValueError(f"{key} is not a setting of training; {known}")
        typed = as_kind(kinds.get(key, "any"), value, key)
        if key in FIXED:
            refuse_other_value(key, typed, FIXED[key])
        elif typed is not None:
            refuse_outside(key, typed, LIMITS[key])
            fields[key] = typed
    return fields


def refuse_other_value(key: str, value: Any, fixed: Fixed) -> None:
    """ValueError for a value that a field does not have."""
    if value is not None and value != fixed.value:
        raise ValueError(f"{key} is always {str(fixed.value).lower()}: {fixed.reason}")
