"""Which device and which precision; a GPU that was asked for is used or its absence is an error."""

import os

import torch

from textassay.console import counted
from textassay.errors import UsageError
from textassay.models.processor import cpu_flags
from textassay.threads import threads_reason

# Set by Slurm where it allotted GPUs to the job or step: two list indices, the last is a count.
ALLOTTED = {"SLURM_JOB_GPUS": "", "SLURM_STEP_GPUS": "", "SLURM_GPUS_ON_NODE": "0"}
# What CUDA_VISIBLE_DEVICES holds where no GPU is to be seen; Slurm writes the last one.
NO_DEVICES = {"", "-1", "none", "void", "nodevfiles"}


def find_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`."""
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if index >= count:
            raise UsageError(
                f"resources.nproc_per_node: this is process {index + 1} on a machine with {count} "
                "GPUs; start one process a GPU, or say --device cpu."
            )
        return torch.device("cuda", index)
    promise = _promise(wanted)
    if promise:
        built = torch.version.cuda
        reason = f"torch {torch.__version__} {'finds no usable GPU' if built else 'has no CUDA'}"
        raise UsageError(
            f"resources.device: {promise}, but {reason}; mend the driver or the installation, or "
            "say --device cpu."
        )
    return torch.device("cpu")


def describe_device(device: torch.device, precision: str) -> str:
    """Device and precision; of a CPU also the threads, and why they are not as torch has them."""
    if device.type != "cpu":
        return f"{device.type}, {precision}"
    reason = f" ({threads_reason()})" if threads_reason() else ""
    threads = torch.get_num_threads()
    return f"{device.type}, {precision}, {counted(threads, 'thread')}{reason}"


def find_precision(wanted: str, device: torch.device) -> str:
    """bf16, fp16 or fp32 for `auto`; anything else if the device can do it."""
    if wanted == "auto":
        if has_bf16(device):
            return "bf16"
        return "fp16" if device.type == "cuda" else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise UsageError("training.precision: fp16 needs a GPU; use bf16, fp32 or auto on a CPU.")
    return wanted


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products run in hardware there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def _promise(wanted: str) -> str | None:
    if wanted == "cuda":
        return "cuda was asked for"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    if visible.lower() not in NO_DEVICES:
        return f"CUDA_VISIBLE_DEVICES={visible} allots a GPU"
    for variable, none in ALLOTTED.items():
        if os.environ.get(variable, "") not in ("", none):
            return f"Slurm allotted a GPU ({variable}={os.environ[variable]})"
    return None
