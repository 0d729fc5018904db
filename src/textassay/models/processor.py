"""What the CPU can do, and what malloc keeps. No torch."""

import ctypes
from typing import Any

# glibc's names for mallopt.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Instructions for products of bytes, which decide how INT8 is rounded and how fast it is.
INT8_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")


def cpu_flags() -> set[str]:
    """The CPU's flags as Linux lists them; empty where there is no /proc/cpuinfo."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            for line in stream:
                if line.lower().startswith(("flags", "features")):
                    return set(line.partition(":")[2].split())
    except OSError:
        pass
    return set()


def int8_flags() -> list[str]:
    """Those of the CPU's flags that decide how INT8 is computed."""
    found = cpu_flags()
    return [flag for flag in INT8_FLAGS if flag in found]


def return_freed_memory() -> None:
    """Let glibc give the kernel what was freed; other libraries do so by themselves, or not."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def keep_freed_memory(libc: Any) -> None:
    """Let glibc keep what a step frees: the next step asks for the same blocks again.

    Handing them back to the kernel costs a page fault for every 4 KiB at every step.
    """
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
