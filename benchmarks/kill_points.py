"""kill -9 of the flow at random moments of a small recipe: does every resumed run end with the same bytes?

python -m benchmarks.kill_points [--points 20]      (writes benchmarks/results/kill_points.json)
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from components.core.files import sha256_tree, write_json
from components.evaluation.hardware import describe
from tests.workspace import make_workspace, workspace_environment

VARIANTS = ("tiny-fp32", "tiny-student-int8")  # a teacher and a distilled student
RUN = [sys.executable, "-m", "pipelines.cli", "run"]


def main() -> None:
    """Run once undisturbed, then once for each point with a kill in it; compare the bundles' hashes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kill_points.json"))
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = make_workspace(folder / "whole", VARIANTS)
        started = time.monotonic()
        finish(whole)
        seconds = time.monotonic() - started
        expected = sha256_tree(whole / "bundles")
        points = []
        for number in range(options.points):
            point = kill_and_resume(folder / f"point-{number}", dice.uniform(1, seconds))
            point["equal"] = point.pop("bundles") == expected
            print(f"{number + 1}/{options.points}: {point}", flush=True)
            points.append(point)
    equal = sum(point["equal"] for point in points)
    result = {"points": points, "equal": equal, "undisturbed_s": round(seconds, 1), "hardware": describe()}
    write_json(options.out, result)
    print(f"{equal} of {len(points)} ended with the same bundles")
    raise SystemExit(equal != len(points))


def finish(root: Path) -> None:
    """Run to the end."""
    done = subprocess.run(RUN, cwd=root, env=workspace_environment(root), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{root}: the run failed\n{done.stdout}{done.stderr}")


def kill_and_resume(root: Path, after_s: float) -> dict[str, Any]:
    """Start, kill the flow's process (and nothing else) after a time, run again; return what there is."""
    make_workspace(root, VARIANTS)
    flow = subprocess.Popen(RUN, cwd=root, env=workspace_environment(root), stdout=subprocess.PIPE, text=True)
    time.sleep(after_s)
    os.kill(flow.pid, signal.SIGKILL)
    output, _ = flow.communicate()
    running = [line.split()[1] for line in output.splitlines() if line.endswith(" running")]
    finish(root)
    bundles = sha256_tree(root / "bundles")
    shutil.rmtree(root)
    return {"killed_after_s": round(after_s, 1), "last_stage_begun": running[-1] if running else "", "bundles": bundles}


if __name__ == "__main__":
    main()
