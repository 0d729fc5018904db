"""Start the processes of a run on this machine: python -m textassay.training.launch COUNT SCRIPT …

COUNT is a number, or a device (`auto`, `cpu`, `cuda`) that says it. The exit code is that of the
first process that failed, and what is printed is what the processes print: torchrun itself ends
with 1 and a traceback of its own.
"""

import logging
import os
import sys
import uuid

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

ON_A_CPU = 2
INTERRUPTED = 130


def count_processes(wanted: str) -> int:
    """A process for each GPU; without any, or where the CPU is asked for, two."""
    if wanted.isdigit():
        return int(wanted)
    gpus = torch.cuda.device_count() if wanted != "cpu" else 0
    return gpus or ON_A_CPU


def start_processes(count: int, command: list[str]) -> int:
    """Carry out `command` in so many processes that find each other; the first bad exit code."""
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0,
    )  # fmt: skip
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else 128 - first.exitcode
    except SignalException as ended:
        return 128 + int(ended.sigval)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(start_processes(count_processes(sys.argv[1]), [sys.executable, *sys.argv[2:]]))
