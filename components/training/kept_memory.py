"""Freed memory stays with the process, so that the next training step need not ask the kernel for it again.

A step of a convolutional network frees the same large activations that the next one allocates. glibc gives blocks above
a threshold, and the free end of its heap, back to the kernel, which then maps and clears every page of them anew.
`python -m benchmarks.conv_training` measures what keeping them is worth. See mallopt(3).
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes; glibc refuses more
_NEVER = 2**31 - 1  # bytes, the largest int


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what is freed, for the rest of this process; return whether it took the advice.

    With another C library nothing is done. What is computed stays the same.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    advice = {_MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD, _TRIM_THRESHOLD: _NEVER}
    return all(mallopt(parameter, value) == 1 for parameter, value in advice.items())
