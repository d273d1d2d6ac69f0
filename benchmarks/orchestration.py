"""What the flow costs beside plain `dvc repro`: a stage, a run with nothing to do, two stages at once, many at once.

Run: python -m benchmarks.orchestration [RESULT.json] [--quick]. Every ratio pairs two runs of this very session; the
limits stand in benchmarks/results.py. About six minutes on two quiet cores; --quick tries it out, its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CODE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CODE))

from components.core.files import write_json  # noqa: E402
from components.evaluation.hardware import describe  # noqa: E402
from pipelines.prefect_server import TemporaryServer, set_prefect_defaults  # noqa: E402
from tests.unit.tracking.conftest import selection, write_bundle  # noqa: E402
from tests.workspace import tiny_params  # noqa: E402

ECHO = {"cmd": "echo ${item} > ${item}", "outs": ["${item}"]}
SPIN = "import time; end = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"
FLOW = """
import sys, time
from pathlib import Path
from pipelines.run_command import connect_prefect
connect_prefect(Path.cwd())
from pipelines.flow import pipeline
start = time.perf_counter()
pipeline(jobs=int(sys.argv[1]), force=sys.argv[2] == "force", track=False)
print("SECONDS", time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Sizes:
    """Stages of the flow that are timed, of a run with nothing to do, and that end at once; a training's seconds."""

    stages: int = 10
    idle: int = 26
    repeats: int = 3
    burst: int = 200
    work_s: float = 15.0


def main() -> None:
    """Measure everything, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", type=Path, default=CODE / "benchmarks/results/orchestration.json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    sizes = Sizes(stages=3, idle=3, repeats=1, burst=8, work_s=1.0) if options.quick else Sizes()
    with tempfile.TemporaryDirectory(prefix="modelpress-bench-") as folder:
        home = Path(folder, "server")
        (home / ".modelpress").mkdir(parents=True)
        os.environ["PREFECT_HOME"] = str(home / "prefect")
        set_prefect_defaults(home)
        server = TemporaryServer(home)
        server.wait()
        results: dict[str, Any] = {"hardware": describe(), "load_at_start": os.getloadavg()[0]}
        for measure in (overhead, nothing_to_do, command, parallel_training, burst):
            results[measure.__name__] = measure(Path(folder, measure.__name__), server.url, sizes)
            print(measure.__name__, json.dumps(results[measure.__name__], indent=2))
        server.stop()
    write_json(options.target, results)
    print(f"written to {options.target}")


def overhead(root: Path, url: str, sizes: Sizes) -> dict[str, float]:
    """Return seconds a stage costs the flow beyond `dvc repro`, executed and unchanged; without tracking."""
    repository(root, {"s": {"foreach": names(sizes.stages), "do": ECHO}})
    dvc(root, "repro", "-q")
    plain = [seconds(lambda: dvc(root, "repro", "-q", "-f")) for _ in range(sizes.repeats)]
    plain_idle = [seconds(lambda: dvc(root, "repro", "-q")) for _ in range(sizes.repeats)]
    executed = [flow(root, url, 1, force=True) for _ in range(sizes.repeats)]
    idle = [flow(root, url, 1) for _ in range(sizes.repeats)]
    empty = root.with_name("one_stage")
    repository(empty, {"s": {"cmd": "echo 1 > one", "outs": ["one"]}})
    flow(empty, url, 1)
    alone = statistics.median(flow(empty, url, 1) for _ in range(sizes.repeats))
    own = (statistics.median(plain) - statistics.median(plain_idle)) / sizes.stages
    return {
        "dvc_repro_executed_stage_s": own,
        "flow_executed_stage_s": (statistics.median(executed) - statistics.median(idle)) / sizes.stages,
        "executed_overhead_s": (statistics.median(executed) - statistics.median(idle)) / sizes.stages - own,
        "unchanged_overhead_s": (statistics.median(idle) - alone) / (sizes.stages - 1),
        "flow_fixed_cost_s": alone,
    }


def nothing_to_do(root: Path, url: str, sizes: Sizes) -> dict[str, float]:
    """Return wall seconds of the flow's process with nothing to do, with a server and without; without tracking."""
    repository(root, {"s": {"foreach": names(sizes.idle), "do": ECHO}})
    flow(root, url, 4)
    with_server = [seconds(lambda: flow(root, url, 1)) for _ in range(sizes.repeats)]
    first = seconds(lambda: flow(root, None, 1))
    without = [seconds(lambda: flow(root, None, 1)) for _ in range(sizes.repeats)]
    return {
        "with_server_s": statistics.median(with_server),
        "without_server_first_s": first,
        "without_server_s": statistics.median(without),
    }


def command(root: Path, url: str, sizes: Sizes) -> dict[str, float]:
    """Return what `modelpress run` takes, MLflow tracking and the registry on: wall seconds of the whole command.

    With nothing to do, with a server and without (the first of these also makes Prefect's database). What one stage
    costs more, executed (beyond the same under `dvc repro`) and unchanged: the difference between a recipe of many
    exports and one of a single export, so that what a run costs once is in neither.
    """
    one = root.with_name("command_one")
    for place, count in ((root, sizes.idle), (one, 1)):
        recorded_recipe(place, count)
        modelpress(place, url)  # the first one registers
    more = sizes.idle - 1

    def median(act: Callable[[Path], object], place: Path) -> float:
        return statistics.median(seconds(lambda: act(place)) for _ in range(sizes.repeats))

    def slope(act: Callable[[Path], object]) -> float:
        return (median(act, root) - median(act, one)) / more

    idle_slope = slope(lambda place: modelpress(place, url))
    executed = slope(lambda place: modelpress(place, url, "--force")) - idle_slope
    own = slope(lambda place: dvc(place, "repro", "-q", "-f")) - slope(lambda place: dvc(place, "repro", "-q"))
    with_server = median(lambda place: modelpress(place, url), root)
    return {
        "with_server_s": with_server,
        "without_server_first_s": seconds(lambda: modelpress(root, None)),
        "without_server_s": median(lambda place: modelpress(place, None), root),
        "executed_overhead_s": executed - own,
        "unchanged_overhead_s": idle_slope,
        "dvc_repro_executed_stage_s": own,
    }


def recorded_recipe(root: Path, exports: int) -> None:
    """Make a project whose recipe has so many exports, each with parameters and metrics, a selection and a report."""
    digests = {f"{split}.{side}": "0" * 64 for split in ("train", "dev", "test") for side in ("en", "ja")}
    params = tiny_params(digests)
    params["variants"] = {f"tiny-{name}": params["variants"]["tiny-fp32"] for name in names(exports)}
    params["students"] = {}
    metrics = [f"metrics/tiny/variants/tiny-{name}.json" for name in names(exports)]
    export = {
        "cmd": 'mkdir -p metrics/tiny/variants && echo \'{"dev": {"bleu": 1.5}}\' > metrics/tiny/variants/${key}.json',
        "params": ["variants.${key}"],
        "metrics": ["metrics/tiny/variants/${key}.json"],
    }
    select = "mkdir -p metrics/tiny && cp selection.made metrics/tiny/selection.json"
    report = "mkdir -p reports/tiny && echo '<h1>tiny</h1>' > reports/tiny/index.html"
    stages = {
        "export": {"foreach": "${variants}", "do": export},
        "select": {
            "foreach": ["tiny"],
            "do": {"cmd": select, "deps": metrics, "metrics": ["metrics/tiny/selection.json"]},
        },
        "report": {
            "foreach": ["tiny"],
            "do": {"cmd": report, "deps": ["metrics/tiny/selection.json"], "outs": ["reports/tiny"]},
        },
    }
    root.mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    repository(root, stages)
    write_bundle(root / "bundles" / "tiny" / "tiny-n0", "tiny-n0", 2.0)
    write_json(root / "selection.made", {**selection("tiny-n0"), "unit": "tokens/s"})


def parallel_training(root: Path, url: str, sizes: Sizes) -> dict[str, float]:
    """Return how long two one-thread stages take under two jobs, as a share of one after the other."""
    do = {"cmd": f"{sys.executable} spin.py && echo ${{item}} > ${{item}}", "outs": ["${item}"]}
    repository(root, {"train": {"foreach": ["a", "b"], "do": do}})
    (root / "spin.py").write_text(SPIN.format(seconds=sizes.work_s))
    flow(root, url, 2)
    serial = statistics.median(flow(root, url, 1, force=True) for _ in range(sizes.repeats))
    parallel = statistics.median(flow(root, url, 2, force=True) for _ in range(sizes.repeats))
    return {"serial_s": serial, "two_jobs_s": parallel, "ratio": parallel / serial}


def burst(root: Path, url: str, sizes: Sizes) -> dict[str, Any]:
    """Return what became of stages that end at the same instant, eight at a time."""
    wait = '{python} -c "import time; t = time.time(); time.sleep(2 - t % 2)" && echo ${{item}} > ${{item}}'
    do = {"cmd": wait.format(python=sys.executable), "outs": ["${item}"]}
    repository(root, {"many": {"foreach": names(sizes.burst), "do": do}})
    output: list[str] = []
    took = seconds(lambda: flow(root, url, 8, output=output))
    kept = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    errors = sum("unable to acquire lock" in line.lower() or "is busy" in line for line in output)
    return {"stages": sizes.burst, "lock_errors": errors, "lost_entries": sizes.burst - len(kept), "seconds": took}


def names(count: int) -> list[str]:
    """Return the keys of a `foreach`."""
    return [f"n{number}" for number in range(count)]


def repository(root: Path, stages: dict[str, Any]) -> None:
    """Make a git and DVC repository with a dvc.yaml."""
    root.mkdir(exist_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    dvc(root, "init", "-q")
    (root / ".gitignore").write_text(".modelpress/\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


def dvc(root: Path, *arguments: str) -> None:
    """Run DVC's command line."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True, capture_output=True)


def flow(root: Path, url: str | None, jobs: int, force: bool = False, output: list[str] | None = None) -> float:
    """Run the flow in a process of its own; return its seconds without the process's start."""
    lines = run(root, url, "-c", FLOW, str(jobs), "force" if force else "changed")
    if output is not None:
        output += lines
    (line,) = [line for line in lines if line.startswith("SECONDS ")]
    return float(line.split()[1])


def modelpress(root: Path, url: str | None, *options: str) -> None:
    """Run `modelpress run` as a user does."""
    run(root, url, "-m", "pipelines.cli", "run", *options)


def run(root: Path, url: str | None, *arguments: str) -> list[str]:
    """Run Python in a folder, with a Prefect server or without, tracked in the folder; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(CODE)}
    for name in ("PREFECT_HOME", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    if url:
        environment["PREFECT_API_URL"] = url
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    if done.returncode:
        raise RuntimeError("\n".join(lines[-20:]))
    return lines


def seconds(act: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
