"""A search within half an hour, killed on the way: what it finds, what it does not do twice, and its frontier.

    python -m benchmarks.search RECIPE --max-size 60KB --max-p50 1ms --min-quality 0.98    (after `run RECIPE`)

Writes benchmarks/results/search-RECIPE.json. The search begins anew, is killed with all its processes (SIGKILL), and
the same command goes on; both together take the minutes that `--minutes` says, but for the timing at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.errors import ModelpressError
from components.core.files import read_json, write_json
from components.core.params import Budget, load_params
from components.evaluation.hardware import describe
from components.evaluation.selection import best, chosen_row, p50_of

KILLED_AFTER = 0.45  # of the time


def main() -> None:
    """Search, kill, go on, judge and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--max-size", required=True)
    parser.add_argument("--max-p50", required=True)
    parser.add_argument("--min-quality", required=True)
    parser.add_argument("--minutes", type=float, default=28)
    options = parser.parse_args()
    folder = Path(".modelpress/search") / options.recipe
    shutil.rmtree(folder, ignore_errors=True)
    budget = ["--max-size", options.max_size, "--max-p50", options.max_p50, "--min-quality", options.min_quality]
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "search",
        options.recipe,
        *budget,
        *["--trials", "200", "--jobs", "2"],
    ]
    started = time.monotonic()
    killed_after = 60 * options.minutes * KILLED_AFTER
    _run_and_kill(command, killed_after)
    before = ended(folder)
    left = 60 * options.minutes - (time.monotonic() - started)
    code = subprocess.run([*command, "--max-time", f"{left:.0f}s"], check=False).returncode
    minutes = (time.monotonic() - started) / 60
    if code not in (0, 1):
        raise ModelpressError(f"{' '.join(command)} ended with code {code}")
    found, after = read_json(folder / "search.json"), ended(folder)
    written = set(load_params().variants_of(options.recipe))
    result = {
        "recipe": options.recipe,
        "hardware": describe(),
        "budget": found["selection"]["budget"],
        "minutes": round(minutes, 1),
        "killed_after_minutes": round(killed_after / 60, 1),
        "ended_before_the_kill": len(before),
        "ended": len(after),
        "trained_to_the_end": len(found["selection"]["variants"]),
        "tried_twice": [name for name, count in Counter(after.values()).items() if count > 1],
        "lost": sorted(before.keys() - after.keys()),
        **judged(found["selection"], written),
        "limits": [limit["text"] for limit in found["limits"]],
        "trials": {trial["trial"]: trial["outcome"] for trial in found["trials"]},
    }
    write_json(Path(f"benchmarks/results/search-{options.recipe}.json"), result)
    print(json.dumps(result, indent=2))


def _run_and_kill(command: Sequence[str], seconds: float) -> None:
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return
    raise ModelpressError(f"{' '.join(command)} ended with code {code} before it could be killed")


def ended(folder: Path) -> dict[int, str]:
    """Return what each trial that ended had tried, by its number in the study."""
    import optuna

    storage = f"sqlite:///{folder / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    ended = [trial for trial in trials if "outcome" in trial.user_attrs]
    return {trial.number: json.dumps(trial.user_attrs["candidate"], sort_keys=True) for trial in ended}


def judged(selection: Mapping[str, Any], written: set[str]) -> dict[str, Any]:
    """Return what was chosen, the frontier, and of the hand-written variants the best, all, and those without figures.

    The frontier is that of all of them: what is not on it has its better there, what was refused is not judged at all.
    """
    rows = selection["variants"]
    by_hand = [row for row in rows if row["variant"] in written]
    fitting = best(by_hand, Budget(**selection["budget"]))
    return {
        "met": selection["met"],
        "chosen": _figures(chosen_row(selection)),
        "reason": selection["reason"],
        "best_by_hand_within_budget": _figures(fitting) if fitting else None,
        "by_hand": [_figures(row) for row in by_hand],
        "frontier": [_figures(row) for row in rows if row["on_frontier"]],
        "missing": sorted(written - {row["variant"] for row in by_hand}),
    }


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "variant": row["variant"],
        "quality_vs_teacher": row["quality_vs_teacher"],
        "quality": row["quality"]["dev"],
        "size_bytes": row["size_bytes"],
        "p50_ms": p50_of(row),
    }


if __name__ == "__main__":
    main()
