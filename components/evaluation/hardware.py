"""This machine in words: the same on every call here, so that a timing always says whose it is."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from components.core.threads import cores

VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}
EXTRAS = {"avx512_vnni": "VNNI", "avx_vnni": "VNNI", "avx512_bf16": "BF16", "amx_tile": "AMX"}


def describe() -> dict[str, str | int | float]:
    """Return what timings depend on and what does not change between two runs: no clock speeds, no free memory.

    cores: processors this process may use; memory_gb: total, in GiB, rounded; accelerator: GPU names, or "none".
    """
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gb": _memory_gb(),
        "os": _operating_system(),
        "python": platform.python_version(),
        "onnxruntime": _version_of_any("onnxruntime", "onnxruntime-gpu"),
        "accelerator": _accelerator(),
    }


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in information.read_text(encoding="utf-8", errors="replace").splitlines())
    facts = {name.strip(): " ".join(value.split()) for name, _, value in lines}
    name = facts.get("model name") or platform.machine()
    return ", ".join(filter(None, [name, " ".join(instructions(facts.get("flags", "").split()))]))


def instructions(flags: Collection[str]) -> list[str]:
    """Return what of a processor's flags its speed at products depends on: machines of one name differ in them."""
    widest = next((name for flag, name in VECTORS.items() if flag in flags), None)
    return list(dict.fromkeys([*([widest] if widest else []), *(EXTRAS[flag] for flag in EXTRAS if flag in flags)]))


def _memory_gb() -> int:
    import psutil

    return round(int(psutil.virtual_memory().total) / 2**30)


def _operating_system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = f"{platform.system()} {platform.release()}"
    return f"{name}, {platform.machine()}"


def _version_of_any(*packages: str) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "none"


def _accelerator() -> str:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "none"
    return ", ".join(line.strip() for line in listing.splitlines() if line.strip()) or "none"
