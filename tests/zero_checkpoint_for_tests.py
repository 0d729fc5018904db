"""Real ZeRO checkpoints, by a few steps of real training on gloo ranks.

Starting the ranks takes ten seconds, training a tiny model one: so one start makes many of them.

torchrun --nproc_per_node N tests/zero_checkpoint_for_tests.py TRAININGS.json
"""

import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"
STEPS = 2
ADAPTERS = ("lora", "dora", "bottleneck", "lora_with_base")


@dataclasses.dataclass(frozen=True)
class Training:
    """What one checkpoint is trained from, and how.

    Methods: full; frozen (the embeddings and the first block do not train); scalar (a parameter of
    one element more); causal (the language model, with tied embeddings); and the adapters, of which
    lora_with_base saves the frozen base as well, as DeepSpeed does unless told otherwise.
    """

    out: str
    base: str
    stage: int
    dtype: str = "fp32"
    method: str = "full"
    save_steps: int = STEPS

    @property
    def checkpoint(self) -> Path:
        """The `checkpoint-N/` that it leaves."""
        return Path(self.out) / f"checkpoint-{STEPS}"


def make_checkpoint(
    out: Path, base: Path, stage: int, ranks: int, dtype: str = "fp32", method: str = "full"
) -> Path:
    """Train in `ranks` processes; the `checkpoint-N/` that they leave."""
    training = Training(str(out), str(base), stage, dtype, method)
    make_checkpoints(ranks, [training])
    return training.checkpoint


@contextmanager
def changed(file: Path) -> Iterator[dict[str, Any]]:
    """What a file of a checkpoint says, to be changed by the block and written again."""
    import torch

    content = torch.load(file, weights_only=False)
    yield content
    torch.save(content, file)


class Hostile:
    """What writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, (f"open({str(self.witness)!r}, 'w').close()",))


def make_checkpoints(ranks: int, trainings: list[Training]) -> None:
    """Train one after the other in the same `ranks` processes."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as listed:
        json.dump([dataclasses.asdict(training) for training in trainings], listed)
        listed.flush()
        from tests.fork_server import python

        command = [python(), "-m", "torch.distributed.run", "--standalone",
                   f"--nproc_per_node={ranks}", __file__, listed.name]  # fmt: skip
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
    assert done.returncode == 0, done.stderr[-3000:]


def train_all(trainings: list[Training]) -> None:
    """One rank's part."""
    import deepspeed
    import torch
    from accelerate.state import AcceleratorState

    from textassay.training.zero import forgo_compiled_kernels

    forgo_compiled_kernels(torch.device("cpu"))
    deepspeed.init_distributed(dist_backend="gloo")
    for training in trainings:
        train(training)
        # Else the next one would be trained by this one's settings. The process group stays.
        AcceleratorState._reset_state(True)
        torch.distributed.barrier()
        # DeepSpeed collects garbage again and again: the libraries need not be searched each time.
        gc.freeze()
    torch.distributed.destroy_process_group()


def train(training: Training) -> None:
    """One rank's part of one checkpoint."""
    import torch
    import transformers

    settings = {
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": training.stage},
        "bf16": {"enabled": training.dtype == "bf16"},
    }
    arguments = transformers.TrainingArguments(
        training.out, use_cpu=True, bf16=training.dtype == "bf16", ddp_backend="gloo",
        deepspeed=settings, per_device_train_batch_size=2, max_steps=STEPS,
        save_steps=training.save_steps, report_to="none", disable_tqdm=True, learning_rate=1e-2,
    )  # fmt: skip
    model = build(training)
    for parameter in model.parameters():  # what was added to a model that DeepSpeed has loaded
        if training.dtype == "bf16" and parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    causal = training.method == "causal"
    draw = torch.Generator().manual_seed(0)
    rows: list[dict[str, Any]] = []
    for index in range(24):
        tokens = torch.randint(2, 25, (9,), generator=draw)
        rows.append({"input_ids": tokens, "labels": tokens if causal else index % 3})
    trainer = transformers.Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    if training.method == "lora_with_base":  # the Trainer leaves the base out
        trainer.model_wrapped.save_checkpoint(str(training.checkpoint))


def build(training: Training) -> Any:
    """The model as the method tunes it."""
    import peft
    import torch
    import transformers

    from textassay.models.bottleneck import BottleneckConfig, register

    if training.method == "causal":
        return transformers.AutoModelForCausalLM.from_pretrained(training.base)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        training.base, num_labels=3
    )
    model.config.pad_token_id = 0
    if training.method == "frozen":
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "embed" not in name and ".0." not in name
    if training.method == "scalar":
        model.scale = torch.nn.Parameter(torch.ones(1))
        model.register_forward_hook(_scaled)
    if training.method not in ADAPTERS:
        return model
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=3, target_modules=["q_proj", "v_proj"],
        use_dora=training.method == "dora",
    )  # fmt: skip
    if training.method == "bottleneck":
        register()
        config = BottleneckConfig(task_type="SEQ_CLS", bottleneck_size=3, modules_to_save=["score"])
    return peft.get_peft_model(model, config, autocast_adapter_dtype=False)


def _scaled(module: Any, _: Any, output: Any) -> Any:
    """The model's loss, times its parameter of one element."""
    output.loss = output.loss * module.scale.sum()
    return output


if __name__ == "__main__":
    listed = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    train_all([Training(**fields) for fields in listed])
    sys.stdout.flush()
    sys.stderr.flush()
    # The checkpoints are whole. A thread of gloo that outlives the interpreter aborts the process
    # now and then ("terminate called without an active exception"), which says nothing about it.
    os._exit(0)
