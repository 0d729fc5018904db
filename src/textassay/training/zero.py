"""DeepSpeed's ZeRO for a run: its configuration, and a model that is built whole beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from textassay.artifacts.zero.consolidate import adapter_key
from textassay.config.schema import DeepspeedSection
from textassay.errors import UsageError
from textassay.files import parse_json
from textassay.models.classifier import is_adapter
from textassay.threads import usable_cpus
from textassay.training.ranks import part

NEVER = 2**31 - 1
# What every configuration needs; `auto` takes the job's value.
FILLED_IN = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
}


def deepspeed_config(section: DeepspeedSection, device: torch.device) -> dict[str, Any]:
    """DeepSpeed's configuration: the job's, or that of `config_file` with the batch filled in.

    Raises UsageError where the file is not one.
    """
    if section.config_file:
        return FILLED_IN | _read(Path(section.config_file))
    on_gpu = device.type == "cuda"
    zero: dict[str, Any] = {
        "stage": section.zero_stage,
        "overlap_comm": on_gpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
    }
    if section.zero_stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            # The consolidator makes the model from the checkpoint; no second copy is gathered.
            "stage3_gather_16bit_weights_on_model_save": False,
        }
    offload = {"device": "cpu", "pin_memory": on_gpu}
    if section.offload_optimizer:
        zero["offload_optimizer"] = offload
    if section.offload_param:
        zero["offload_param"] = offload
    return {
        **FILLED_IN,
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # DeepSpeed's own Adam for CPUs is compiled at run time; there may be no compiler.
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": NEVER,
    }


def refuse_mismatches(arguments: Any, section: DeepspeedSection) -> None:
    """UsageError where a configuration file says otherwise than the job."""
    mismatches = arguments.hf_deepspeed_config.mismatches
    if mismatches:
        said = "; ".join(line.removeprefix("- ds ") for line in mismatches)
        raise UsageError(
            f'{section.config_file}: says otherwise than the job ({said}); set these to "auto".'
        )
    stage = arguments.hf_deepspeed_config.get_value("zero_optimization.stage") or 0
    if stage not in (1, 2, 3):
        raise UsageError(
            f"{section.config_file}: zero_optimization.stage is {stage}; checkpoints are kept of "
            "stages 1, 2 and 3."
        )


def forgo_compiled_kernels(device: torch.device) -> None:
    """On a CPU DeepSpeed compiles a kernel when it starts, and dies without a compiler."""
    if device.type == "cpu":
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def refuse_unsaved(model: Any) -> None:
    """UsageError before the training where PEFT saves the method otherwise than by parameters.

    What is made of a ZeRO checkpoint would not be what PEFT saves: virtual tokens, say, which it
    saves as they come out of their encoder.
    """
    if not is_adapter(model):
        return
    from textassay.models.peft_library import peft

    saved = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    trained = {adapter_key(name) for name, p in model.named_parameters() if p.requires_grad}
    if saved != trained:
        method = model.active_peft_config.peft_type.value.lower()
        raise UsageError(
            f"method.name: {method} as it is set here cannot be made from a ZeRO checkpoint "
            f"({min(saved ^ trained)} is saved and trained under different names); use the lora "
            "launcher, or another method."
        )


@contextmanager
def built_whole(arguments: Any) -> Iterator[None]:
    """A block in which models are built as for any launcher, and not cut into pieces yet.

    So the head, and whatever else is fresh, starts from the seed exactly as it does elsewhere; the
    engine cuts the whole model when the training begins.
    """
    config = getattr(arguments, "hf_deepspeed_config", None)
    if config is not None:
        unset_hf_deepspeed_config()
    yield
    if config is not None:
        set_hf_deepspeed_config(config)


def leave_deepspeed() -> None:
    """End what the processes do together; what comes after, the main one does alone, as ever."""
    part()
    unset_hf_deepspeed_config()
    torch.set_num_threads(usable_cpus())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--deepspeed: {path}: {str(error.strerror).lower()}.") from None
    except ValueError as error:
        raise UsageError(f"--deepspeed: {path}: is not JSON ({error}).") from None
    if not isinstance(content, dict):
        raise UsageError(f"--deepspeed: {path}: holds no DeepSpeed configuration.")
    return content
