"""How many cores there are, and how many threads a computation may use."""

from __future__ import annotations

import os

from components.core.errors import ModelpressError


def cores() -> int:
    """Return how many cores this process may use: a container or taskset may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Return MODELPRESS_THREADS, or the number of cores.

    Raises:
        ModelpressError: MODELPRESS_THREADS is no number above zero.
    """
    wanted = os.environ.get("MODELPRESS_THREADS")
    if not wanted:
        return cores()
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ModelpressError(f"MODELPRESS_THREADS: {wanted!r} is no number of threads; set one, or unset it")
    return int(wanted)
