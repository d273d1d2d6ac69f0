"""A newcomer's first minutes: clone what is committed here, set up, `make run`, and `make run` again.

    python -m benchmarks.first_run [--folder FOLDER]    (writes benchmarks/results/first_run.json)

Nothing of this environment is handed on but the data mirror, where ../shared/data or MODELPRESS_DATA_MIRROR is one.
FOLDER: a new folder to work in and leave as it is; without it the clone is removed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from components.core.files import read_json, write_json

MIRROR = Path("../shared/data")


def main() -> None:
    """Clone and run, write how long each step took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = first_run((options.folder or Path(name)) / "modelpress")
    write_json(Path("benchmarks/results/first_run.json"), result)
    print(result)


def first_run(clone: Path) -> dict[str, Any]:
    """Return seconds of set-up, first and second run, the stages of each, and the chosen variant."""
    from components.evaluation.hardware import describe

    subprocess.run(["git", "clone", "-q", Path.cwd(), clone], check=True)
    bare = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
    venv = str(Path.cwd() / ".venv")
    bare["PATH"] = ":".join(part for part in os.environ["PATH"].split(":") if not part.startswith(venv))
    mirror = os.environ.get("MODELPRESS_DATA_MIRROR") or (str(MIRROR.resolve()) if MIRROR.is_dir() else "")
    if mirror:
        bare["MODELPRESS_DATA_MIRROR"] = mirror
    setup, _ = _timed(["make", ".venv/.ready"], clone, bare)
    first, lines = _timed(["make", "run"], clone, bare)
    again, lines_again = _timed(["make", "run"], clone, bare)
    recipe = read_json(next(clone.glob("metrics/*/selection.json")))
    return {
        "setup_s": round(setup, 1),
        "run_s": round(first, 1),
        "again_s": round(again, 1),
        "stages": sum(" done in " in line for line in lines),
        "cached_again": sum(" Cached" in line for line in lines_again),
        "ran_again": sum(" done in " in line for line in lines_again),
        "selected": recipe["selected"],
        "reason": recipe["reason"],
        "commit": subprocess.run(["git", "describe", "--always"], capture_output=True, text=True, check=True).stdout[
            :-1
        ],
        "hardware": describe(),
    }


def _timed(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, list[str]]:
    print(f"== {' '.join(command)}", flush=True)
    started, lines = time.perf_counter(), []
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, lines


if __name__ == "__main__":
    main()
