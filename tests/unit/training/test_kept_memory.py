"""Memory that a process frees stays with it once it was told to keep it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
import torch
from components.training.kept_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
PR_SET_THP_DISABLE = 41  # huge pages come as the kernel has them at hand: 8 MB would be 4 faults or 2,000
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)

def fill():
    for block in [torch.ones(2_000_000) for _ in range(32)]:  # 8 MB each: more than malloc keeps of its own accord
        block.add_(1)

for _ in range(3):  # until the heap is as large as is needed, whatever else lies in it
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of another C library")
def test_pages_are_not_asked_for_again_when_freed_memory_is_kept() -> None:
    # held to where it begins, or malloc would raise it as it goes, and give nothing back where a block lies on the rest
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    faults = {
        setting: int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, setting], stdout=subprocess.PIPE, check=True, env=environment
            ).stdout
        )
        for setting in ("default", "keep")
    }
    assert faults["keep"] < 0.1 * faults["default"]
