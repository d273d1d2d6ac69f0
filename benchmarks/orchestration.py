"""What the flow costs beside plain `dvc repro`: a stage, a run with nothing to do, two stages at once, many at once.

Run: python benchmarks/orchestration.py [RESULT.json]. Every ratio pairs two runs of this very session; the limits are
those of the project's first issue. About four minutes on two quiet cores.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

CODE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CODE))

from components.core.files import write_json  # noqa: E402
from components.core.threads import cores  # noqa: E402
from pipelines.prefect_server import TemporaryServer, set_prefect_defaults  # noqa: E402

STAGES = 10
REPEATS = 3
BURST = 200
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


def main() -> None:
    """Measure everything, print it, write it."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else CODE / "benchmarks" / "results" / "orchestration.json"
    with tempfile.TemporaryDirectory(prefix="modelpress-bench-") as folder:
        home = Path(folder, "server")
        (home / ".modelpress").mkdir(parents=True)
        os.environ["PREFECT_HOME"] = str(home / "prefect")
        set_prefect_defaults(home)
        server = TemporaryServer(home)
        server.wait()
        results: dict[str, Any] = {"cores": cores(), "load_at_start": os.getloadavg()[0]}
        for measure in (overhead, nothing_to_do, parallel_training, burst):
            results[measure.__name__] = measure(Path(folder, measure.__name__), server.url)
            print(measure.__name__, json.dumps(results[measure.__name__], indent=2))
        server.stop()
    write_json(target, results)
    print(f"written to {target}")


def overhead(root: Path, url: str) -> dict[str, float]:
    """Return seconds a stage costs the flow beyond `dvc repro`, executed and unchanged (limits 0.4 and 0.1)."""
    repository(root, {"s": {"foreach": names(STAGES), "do": {"cmd": "echo ${item} > ${item}", "outs": ["${item}"]}}})
    dvc(root, "repro", "-q")
    plain = [seconds(lambda: dvc(root, "repro", "-q", "-f")) for _ in range(REPEATS)]
    plain_idle = [seconds(lambda: dvc(root, "repro", "-q")) for _ in range(REPEATS)]
    executed = [flow(root, url, 1, force=True) for _ in range(REPEATS)]
    idle = [flow(root, url, 1) for _ in range(REPEATS)]
    empty = root.with_name("one_stage")
    repository(empty, {"s": {"cmd": "echo 1 > one", "outs": ["one"]}})
    flow(empty, url, 1)
    alone = statistics.median(flow(empty, url, 1) for _ in range(REPEATS))
    own = (statistics.median(plain) - statistics.median(plain_idle)) / STAGES
    return {
        "dvc_repro_executed_stage_s": own,
        "flow_executed_stage_s": (statistics.median(executed) - statistics.median(idle)) / STAGES,
        "executed_overhead_s": (statistics.median(executed) - statistics.median(idle)) / STAGES - own,
        "unchanged_overhead_s": (statistics.median(idle) - alone) / (STAGES - 1),
        "flow_fixed_cost_s": alone,
    }


def nothing_to_do(root: Path, url: str) -> dict[str, float]:
    """Return wall seconds of a whole process with nothing to do, with a server and without (limits 4 and 15)."""
    repository(root, {"s": {"foreach": names(26), "do": {"cmd": "echo ${item} > ${item}", "outs": ["${item}"]}}})
    flow(root, url, 4)
    with_server = [seconds(lambda: flow(root, url, 1)) for _ in range(REPEATS)]
    first = seconds(lambda: flow(root, None, 1))
    without = [seconds(lambda: flow(root, None, 1)) for _ in range(REPEATS)]
    return {
        "with_server_s": statistics.median(with_server),
        "without_server_first_s": first,
        "without_server_s": statistics.median(without),
    }


def parallel_training(root: Path, url: str, work_s: float = 15.0) -> dict[str, float]:
    """Return how long two one-thread stages take under two jobs, as a share of one after the other (limit 0.65)."""
    do = {"cmd": f"{sys.executable} spin.py && echo ${{item}} > ${{item}}", "outs": ["${item}"]}
    repository(root, {"train": {"foreach": ["a", "b"], "do": do}})
    (root / "spin.py").write_text(SPIN.format(seconds=work_s))
    flow(root, url, 2)
    serial = statistics.median(flow(root, url, 1, force=True) for _ in range(REPEATS))
    parallel = statistics.median(flow(root, url, 2, force=True) for _ in range(REPEATS))
    return {"serial_s": serial, "two_jobs_s": parallel, "ratio": parallel / serial}


def burst(root: Path, url: str) -> dict[str, Any]:
    """Return what became of stages that end at the same instant, eight at a time (limits: 0 errors, 0 lost)."""
    wait = '{python} -c "import time; t = time.time(); time.sleep(2 - t % 2)" && echo ${{item}} > ${{item}}'
    do = {"cmd": wait.format(python=sys.executable), "outs": ["${item}"]}
    repository(root, {"many": {"foreach": names(BURST), "do": do}})
    output: list[str] = []
    took = seconds(lambda: flow(root, url, 8, output=output))
    kept = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    errors = sum("unable to acquire lock" in line.lower() or "is busy" in line for line in output)
    return {"stages": BURST, "lock_errors": errors, "lost_entries": BURST - len(kept), "seconds": took}


def names(count: int) -> list[str]:
    """Return the keys of a `foreach`."""
    return [f"n{number}" for number in range(count)]


def repository(root: Path, stages: dict[str, Any]) -> None:
    """Make a git and DVC repository with a dvc.yaml."""
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    dvc(root, "init", "-q")
    (root / ".gitignore").write_text(".modelpress/\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


def dvc(root: Path, *arguments: str) -> None:
    """Run DVC's command line."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True, capture_output=True)


def flow(root: Path, url: str | None, jobs: int, force: bool = False, output: list[str] | None = None) -> float:
    """Run the flow in a process of its own; return its seconds without the process's start."""
    environment = {**os.environ, "PYTHONPATH": str(CODE)}
    environment.pop("PREFECT_HOME")
    if url:
        environment["PREFECT_API_URL"] = url
    command = [sys.executable, "-c", FLOW, str(jobs), "force" if force else "changed"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    if output is not None:
        output += lines
    if done.returncode:
        raise RuntimeError("\n".join(lines[-20:]))
    (line,) = [line for line in lines if line.startswith("SECONDS ")]
    return float(line.split()[1])


def seconds(act: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
