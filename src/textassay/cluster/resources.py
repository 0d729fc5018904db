"""What a job asks Slurm for."""

from textassay.config.schema import Job
from textassay.errors import UsageError


def sbatch_flags(job: Job) -> list[str]:
    """The job's resources as flags of sbatch; what it leaves open is the sbatch file's to say.

    One task a node: it starts the node's processes. UsageError for nodes that a launcher cannot
    use.
    """
    wanted = job.resources
    refuse_too_many_nodes(job, wanted.nodes)
    gpus = 0 if wanted.device == "cpu" and wanted.gpus_per_node is None else wanted.gpus_per_node
    flags = {
        "--nodes": wanted.nodes,
        "--gpus-per-node": gpus,
        "--cpus-per-task": wanted.cpus_per_task,
        "--mem": wanted.mem,
        "--time": wanted.time,
    }
    return [f"{flag}={value}" for flag, value in flags.items() if value is not None]


def refuse_too_many_nodes(job: Job, nodes: int) -> None:
    """UsageError where a launcher that is one process would leave nodes idle."""
    if nodes > 1 and job.launcher != "deepspeed":
        raise UsageError(
            f"resources.nodes: the launcher {job.launcher} is one process on one node, and this "
            f"is {nodes} nodes; ask for one, or use the deepspeed launcher."
        )
