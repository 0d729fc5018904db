"""What the benchmarks share: one line with the ratio last, and --json."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """The machine that the figures belong to."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def finish(results: dict[str, Any], line: str, json_file: Path | None) -> None:
    """Write the results where asked, and print the one line that sums them up, last."""
    if json_file:
        json_file.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
    print(line)
