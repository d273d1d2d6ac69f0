"""How many threads a computation may use."""

from __future__ import annotations

import os


def threads() -> int:
    """Return MODELPRESS_THREADS, or the number of cores."""
    return int(os.environ.get("MODELPRESS_THREADS") or os.cpu_count() or 1)
