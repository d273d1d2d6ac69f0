"""Times bundles in a process of its own without torch, by the code of the stage `measure`.

Run as: python -m pipelines.search.timing REPEATS JSON, where JSON is {name: path of a bundle}; prints latency.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.errors import ModelpressError


def time_bundles(bundles: Mapping[str, Path | str], repeats: int) -> dict[str, Any]:
    """Return what `components.evaluation.latency.measure` says of the bundles, interleaved, at one thread.

    Raises:
        ModelpressError: a bundle can't be loaded.
    """
    paths = json.dumps({name: str(path) for name, path in bundles.items()})
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.search.timing", str(repeats), paths],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ModelpressError(f"timing {', '.join(bundles)}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure the bundles named on the command line."""
    from components.evaluation.latency import measure

    bundles = {name: Path(path) for name, path in json.loads(sys.argv[2]).items()}
    print(json.dumps(measure(bundles, repeats=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
