"""The disk that a run fills."""

from dataclasses import dataclass

from textassay.config.schema import Job
from textassay.planning.memory import Footprint
from textassay.planning.states import FP32

# Configs, a tokenizer, states of the Trainer: a few files beside the weights.
BESIDE = 2 * 10**6


@dataclass(frozen=True)
class Disk:
    """Bytes: one checkpoint, all that are there at once, the artifact, what is saved beside it."""

    checkpoint: int
    checkpoints: int
    artifact: int
    beside: int

    def total(self) -> int:
        """The most that is there at once."""
        return self.checkpoints + self.artifact + self.beside


def disk_of(job: Job, seen: Footprint) -> Disk:
    """Checkpoints hold what is trained and the optimizer's states; artifacts are in fp32.

    Stages 1 and 2 of ZeRO also save the weights that the processes compute with.
    """
    trained, shares = seen.trained_bytes(), seen.shares
    if job.launcher == "deepspeed":
        one = 3 * trained
        if job.deepspeed.zero_stage < 3:
            one += sum(tensor.nbytes for tensor in seen.tensors if tensor.trains)
    else:
        one = trained + shares.states
    if (job.training.model_extra or {}).get("save_only_model"):
        one = trained
    merged = FP32 * seen.parameters[1] + BESIDE
    wanted = int(job.artifact.save_merged) + int(job.artifact.final_model_dir is not None)
    wanted += int(job.artifact.save_bin)
    one += BESIDE
    # All that are kept, and the one that is written before the oldest goes.
    at_once = (job.training.save_total_limit + 1) * one
    if job.training.is_zero_shot():
        one = at_once = 0
    return Disk(one, at_once, trained + BESIDE, wanted * merged)
