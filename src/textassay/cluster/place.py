"""Where a process stands in what Slurm has given: which node of how many, which element."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textassay.config.runs import Run
from textassay.console import counted
from textassay.errors import UsageError

# Below what systems give to whoever asks for any port, above what services are known by.
FIRST_PORT = 20_000
PORTS = 10_000


@dataclass(frozen=True)
class Place:
    """One task of a step of a job. `address` is the first node's, where the processes meet.

    `element` is the index in a job array, `restarts` counts how often the job was queued again.
    `secret` is what the sbatch file drew at random, the same in all its steps.
    """

    job_id: int
    nodes: int
    node: int
    address: str
    element: int | None
    restarts: int
    secret: str = ""

    @classmethod
    def in_step(cls, environ: Mapping[str, str]) -> "Place":
        """What srun tells its tasks. UsageError outside a step."""
        try:
            return cls(
                job_id=int(environ["SLURM_JOB_ID"]),
                nodes=int(environ["SLURM_STEP_NUM_NODES"]),
                node=int(environ["SLURM_NODEID"]),
                # The first node of the allocation is where the sbatch file runs and calls srun.
                address=environ["SLURM_LAUNCH_NODE_IPADDR"],
                element=_element(environ),
                restarts=int(environ.get("SLURM_RESTART_COUNT") or 0),
                secret=environ.get("TEXTASSAY_PORT_SECRET", ""),
            )
        except KeyError as missing:
            raise UsageError(
                f"this is no step of a Slurm job ({missing.args[0]} is not set); submit it with "
                "sbatch slurm/train.sbatch JOB.yaml, or use train.sh here."
            ) from None

    @property
    def is_first(self) -> bool:
        """Whether this node does what is done once."""
        return self.node == 0

    def meeting_of(self, seed: int) -> str:
        """What the processes of a run call their meeting, on all nodes; no other is called so.

        What one node still does for the run before, or for the last attempt, must not mix in.
        """
        return f"{self.job_id}-{self.restarts}-{seed}"

    def port_of(self, meeting: str) -> int:
        """A port on the first node that nobody can tell who does not know the secret.

        Two meetings have the same one by chance, 1 in 10,000.
        """
        digest = hashlib.sha256(f"{self.secret} {meeting}".encode()).digest()
        return FIRST_PORT + int.from_bytes(digest[:8]) % PORTS

    def share_of(self, runs: Sequence[Run]) -> list[Run]:
        """All runs; of a job array's element the one that its index counts to, from 0."""
        if self.element is None:
            return list(runs)
        if self.element >= len(runs):
            raise UsageError(
                f"{runs[0].job.name} has {counted(len(runs), 'seed')}, and this is element "
                f"{self.element} of "
                f"a job array; submit it with --array=0-{len(runs) - 1}."
            )
        return [runs[self.element]]


def _element(environ: Mapping[str, str]) -> int | None:
    """The index of this element of a job array; None outside an array."""
    index = environ.get("SLURM_ARRAY_TASK_ID", "")
    return int(index) if index else None
