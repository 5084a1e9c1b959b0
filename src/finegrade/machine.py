"""The version, the usable cores, and a memory setting that speeds up training on a CPU."""

import ctypes
import os
import sys
from importlib.metadata import version

VERSION = version("finegrade")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_ONE_GIB = 1 << 30


def usable_cores() -> int:
    """Cores that this process may run on: a container or taskset may leave it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Lets the process keep freed memory for the next step instead of returning it to the system.

    A training step frees and asks for gigabytes; by default glibc maps and unmaps them each time, and the page faults
    cost a good part of the step (docs/lab/engineering.md). Elsewhere than on Linux with glibc this does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _ONE_GIB):  # the one without the other makes it worse
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
