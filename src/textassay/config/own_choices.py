"""What counts only as a flag or variable of the user's own, since a job file may be a stranger's.

Nobody reads a job file line by line before it runs. So no setting in one sends anything out, and
none writes elsewhere than to the directories that a run names before it trains.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textassay.errors import UsageError

# They send a run's figures to a server, with the login of whoever runs the job.
TRACKERS = ("report_to", "project", "trackio_space_id", "trackio_bucket_id",
            "trackio_static_space_id")  # fmt: skip
# These write to the run's directory alone.
SEND_NOTHING = {"none", "tensorboard"}
DEEPSPEED = "deepspeed.config_file"
# What a DeepSpeed configuration may hold that a job file names: how a run computes. Others send
# figures out (wandb, comet), or write files elsewhere (tensorboard, csv_monitor, flops_profiler,
# autotuning, nebula, offloading to nvme).
COMPUTES = {
    "activation_checkpointing", "aio", "amp", "bf16", "communication_data_type", "compile",
    "data_types", "disable_allgather", "fp16", "gradient_accumulation_steps", "gradient_clipping",
    "gradient_predivide_factor", "optimizer", "prescale_gradients", "scheduler",
    "sparse_gradients", "steps_per_print", "torch_autocast", "train_batch_size",
    "train_micro_batch_size_per_gpu", "wall_clock_breakdown", "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer", "zero_optimization",
}  # fmt: skip


def refuse_in_job(job_file: Path, settings: Mapping[str, Any]) -> None:
    """UsageError where a job file sets what is the user's own choice."""
    for name in TRACKERS:
        value = settings.get(f"training.{name}")
        listed = value if isinstance(value, list) else [value]
        if value and any(str(one) not in SEND_NOTHING for one in listed):
            raise UsageError(
                f"{job_file}: training.{name} would send the run's figures to a server with your "
                "login, so it counts only as a flag or variable of your own: leave it out of the "
                f"job, and give --{name} {_as_flag(value)}."
            )
    config = settings.get(DEEPSPEED)
    if isinstance(config, str):
        other = _beside_computing(Path(config).expanduser())
        if other:
            raise UsageError(
                f"{job_file}: {DEEPSPEED} is {config}, which sets {other}; that sends figures out "
                "or writes files outside the run, so it counts only in a file that you name "
                f"yourself: leave it out of the job, and give --deepspeed {config}."
            )


def _as_flag(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _beside_computing(path: Path) -> str | None:
    """The first key of a DeepSpeed configuration with an effect outside its run.

    None where there is none, and where it cannot be read, which is said when it is needed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    unknown = sorted(map(str, content.keys() - COMPUTES))
    if unknown:
        return unknown[0]
    zero = content.get("zero_optimization")
    for name in ("offload_optimizer", "offload_param"):
        offload = zero.get(name) if isinstance(zero, dict) else None
        if isinstance(offload, dict) and offload.get("device", "cpu") not in ("cpu", "none"):
            return f"zero_optimization.{name}.device"
    return None
