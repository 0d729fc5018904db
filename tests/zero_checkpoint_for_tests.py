"""A real ZeRO checkpoint, by a few steps of real training on gloo ranks.

torchrun --nproc_per_node N tests/zero_checkpoint_for_tests.py OUT BASE STAGE DTYPE METHOD
"""

import os
import subprocess
import sys
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"
STEPS = 2


def make_checkpoint(
    out: Path, base: Path, stage: int, ranks: int, dtype: str = "fp32", method: str = "full"
) -> Path:
    """Train in `ranks` processes; the `checkpoint-N/` that they leave."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               f"--nproc_per_node={ranks}", __file__,
               str(out), str(base), str(stage), dtype, method]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out / f"checkpoint-{STEPS}"


def train(out: str, base: str, stage: int, dtype: str, method: str) -> None:
    """One rank's part."""
    import deepspeed
    import peft
    import torch
    import transformers

    # DeepSpeed would compile this one, and there may be no compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    settings = {
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": stage},
        "bf16": {"enabled": dtype == "bf16"},
    }
    arguments = transformers.TrainingArguments(
        out, use_cpu=True, bf16=dtype == "bf16", ddp_backend="gloo", deepspeed=settings,
        per_device_train_batch_size=2, max_steps=STEPS, save_steps=STEPS, report_to="none",
        disable_tqdm=True, learning_rate=1e-2,
    )  # fmt: skip
    deepspeed.init_distributed(dist_backend="gloo")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    model.config.pad_token_id = 0
    if method in ("lora", "dora"):
        config = peft.LoraConfig(
            task_type="SEQ_CLS", r=4, target_modules=["q_proj", "v_proj"], use_dora=method == "dora"
        )
        model = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    draw = torch.Generator().manual_seed(0)
    rows = [{"input_ids": torch.randint(2, 200, (9,), generator=draw), "labels": index % 3}
            for index in range(24)]  # fmt: skip
    transformers.Trainer(model, arguments, train_dataset=rows).train()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
    sys.stdout.flush()
    sys.stderr.flush()
    # The checkpoint is whole. A thread of gloo that outlives the interpreter aborts the process now
    # and then ("terminate called without an active exception"), which says nothing about it.
    os._exit(0)
