"""What this device pays for the bundle beside this script: installed bytes, peak memory, cold start, answer time.

A fresh process is measured from its start, Python's own included; files the system still has in memory count as read.
"""

from __future__ import annotations

import json
import platform
import re
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any


def print_report(root: Path) -> None:
    """Print the report of the edge folder `root` as JSON."""
    print(json.dumps(report(root), indent=2))


def report(root: Path) -> dict[str, Any]:
    """Return bytes, seconds and what was measured; times are those of the golden examples, answered one by one.

    Raises:
        SystemExit: the measured process failed; its own words stand on stderr.
    """
    manifest = json.loads((root / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    installed = installed_bytes(required((root / "requirements.txt").read_text(encoding="utf-8").splitlines()))
    measured = measure(root)
    return {
        "variant": manifest["variant"],
        "precision": manifest["precision"],
        "bundle_bytes": sum((root / "bundle" / name).stat().st_size for name in manifest["files"]),
        "installed_bytes": {**installed, "total": sum(installed.values())},
        **measured,
        "machine": f"{platform.platform()}, Python {platform.python_version()}",
    }


def required(requirements: list[str]) -> list[str]:
    """Return the distributions that lines of a requirements file need, their own requirements included."""
    left, found = list(requirements), set[str]()
    while left:
        line = left.pop()
        name = re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0]
        if name in found or "extra ==" in line:
            continue
        try:
            left += metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # wanted on other systems only
            continue
        found.add(name)
    return sorted(found)


def installed_bytes(distributions: list[str]) -> dict[str, int]:
    """Return the bytes on disk of each distribution's files, compiled ones included."""
    sizes = {}
    for name in distributions:
        paths = [Path(str(file.locate())) for file in metadata.files(name) or []]
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
    return sizes


def measure(root: Path) -> dict[str, Any]:
    """Return what a fresh process takes to its first answer and for one answer, and the memory it held at most."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, Path(__file__), root], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    cold = time.perf_counter() - start
    rest, _ = child.communicate()
    if child.returncode < 0:  # it could not say so itself
        sys.exit(f"run.py: the measured process was ended by signal {-child.returncode}; has the device enough memory?")
    if child.returncode:
        sys.exit(child.returncode)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return {"cold_start_s": round(cold, 3), "peak_memory_bytes": peak, **json.loads(rest)}


def answer_golden(root: Path) -> None:
    """Print the first golden example's answer, then, when all are answered, what came of them as JSON."""
    from components.core.golden import count_same, read_examples
    from components.inference import load_predictor

    predictor = load_predictor(root / "bundle")
    examples = read_examples(root / "bundle")
    times, answers = [], []
    for example in examples:
        start = time.perf_counter()
        answers += predictor.predict([example.input])
        times.append(time.perf_counter() - start)
        if len(times) == 1:
            print(json.dumps(answers[0]), flush=True)
    same = count_same(answers, examples)
    print(json.dumps({"answers": len(answers), "as_packaged": same, "median_answer_s": round(median(times), 5)}))


def main() -> int:
    """Answer the golden examples; return the exit code, 2 for a bundle that is not as it was packaged."""
    from components.core.errors import ModelpressError

    try:
        answer_golden(Path(sys.argv[1]))
    except ModelpressError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
