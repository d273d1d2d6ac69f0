"""The plan of a run, read by a process of its own while this one imports Prefect: both take seconds, on one core each.

python -m pipelines.plan_ahead ROOT [TARGET...]   prints it as JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path

from pipelines.dag import PlannedStage, read_plan

DESCRIBED_BY = ("dvc.yaml", "params.yaml", "dvc.lock", "hardware.json")
Plan = dict[str, PlannedStage]


class PlanAhead:
    """A process that reads the plan of these targets; what it finds counts as long as the project stays as it was."""

    def __init__(self, root: Path, targets: Sequence[str]) -> None:
        self._root, self._targets = root, list(targets)
        self._state = _state(root)
        self._text: bytes | None = None
        command = [sys.executable, "-m", "pipelines.plan_ahead", str(root), *targets]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def wait(self) -> bytes:
        """Wait until it has been read, or could not be; return what the process printed."""
        if self._text is None:
            self._text, _ = self._process.communicate()
        return self._text

    def plan(self, targets: Sequence[str] | None) -> Plan | None:
        """Return the plan; None where it is not known so, for whatever reason: then it is to be read as ever."""
        text = self.wait()
        if self._process.returncode or list(targets or []) != self._targets or _state(self._root) != self._state:
            return None
        stages = (PlannedStage(**{**stage, "depends_on": tuple(stage["depends_on"])}) for stage in json.loads(text))
        return {stage.name: stage for stage in stages}

    def stop(self) -> None:
        """End the process, if it still runs."""
        self._process.kill()
        self._process.wait()


_ahead: ContextVar[PlanAhead | None] = ContextVar("ahead", default=None)


@contextmanager
def planning_ahead(root: Path, targets: Sequence[str]) -> Iterator[PlanAhead]:
    """Read a plan from here on, for the flow that is started inside the block."""
    ahead = PlanAhead(root, targets)
    token = _ahead.set(ahead)
    try:
        yield ahead
    finally:
        _ahead.reset(token)
        ahead.stop()


def plan_of(root: Path, targets: Sequence[str] | None, settled: bool) -> Plan:
    """Return the plan read ahead, or read it now.

    settled: nothing has been left by a killed flow, which might have been at work while the plan was read.

    Raises:
        ModelpressError: what `read_plan` raises.
    """
    ahead = _ahead.get()
    plan = ahead.plan(targets) if ahead and settled else None
    return plan if plan is not None else read_plan(root, targets)


def _state(root: Path) -> list[tuple[int, int] | None]:
    paths = [root / name for name in DESCRIBED_BY]
    return [(path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None for path in paths]


def main() -> None:
    """Print the plan; any problem ends the process, and the flow meets it again and tells it."""
    root, *targets = sys.argv[1:]
    plan = read_plan(Path(root), targets or None)
    json.dump([asdict(stage) for stage in plan.values()], sys.stdout)


if __name__ == "__main__":
    main()
