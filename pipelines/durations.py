"""How long stages took last time, and what that says about the time left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from components.core.files import write_json

_PROGRESS = re.compile(r"\bprogress (\d+(?:\.\d+)?)/(\d+)")


def share_done(line: str) -> float | None:
    """Return the share of a stage that a line such as `progress 3/10 epochs` says is done, or None."""
    found = _PROGRESS.search(line)
    if not found or float(found[2]) == 0:
        return None
    return min(1.0, float(found[1]) / float(found[2]))


class Durations:
    """Seconds each stage took when it last ran, kept in `.modelpress/durations.json`."""

    def __init__(self, root: Path) -> None:
        self._path = root / ".modelpress" / "durations.json"
        try:
            self._seconds: dict[str, float] = json.loads(self._path.read_text())
        except (OSError, ValueError):  # none yet; a lost estimate is no error
            self._seconds = {}

    def expected(self, stage: str) -> float | None:
        """Return a stage's seconds, or those usual in its family (`train@...`), or None where nothing is known."""
        if stage in self._seconds:
            return self._seconds[stage]
        family = [seconds for name, seconds in self._seconds.items() if name.split("@")[0] == stage.split("@")[0]]
        return median(family) if family else None

    def record(self, stage: str, seconds: float) -> None:
        """Keep what a stage took."""
        self._seconds[stage] = round(seconds, 2)
        write_json(self._path, self._seconds)


@dataclass(frozen=True)
class TimeLeft:
    """Seconds to the end of a run; a lower bound where some stages have never run."""

    seconds: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'about'} {spoken(self.seconds)} left"


def stage_time_left(expected: float | None, elapsed: float, share: float | None) -> float | None:
    """Return a running stage's seconds left: from the share it says is done, else from its last duration."""
    if share:
        return elapsed / share - elapsed
    return None if expected is None else max(0.0, expected - elapsed)


def longest_chains(depends_on: Mapping[str, Sequence[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of the longest chain that begins with each stage: whoever has most behind it should go first.

    Args:
        depends_on: every stage's dependencies, none before its own.
    """
    chains = dict(seconds)
    for name in reversed(list(depends_on)):
        for other in depends_on[name]:
            chains[other] = max(chains[other], seconds[other] + chains[name])
    return chains


def time_left(
    depends_on: Mapping[str, Sequence[str]],
    remaining: Mapping[str, float | None],
    jobs: int,
    alone: Callable[[str], bool] = lambda name: False,
) -> TimeLeft | None:
    """Return the time left: the longest chain of remaining stages, or all of them shared by the jobs, if longer.

    Stages that run alone are not shared.

    Args:
        depends_on: every stage's dependencies, in plan order.
        remaining: seconds of each stage not finished (None: unknown).
    """
    known = {name: seconds for name, seconds in remaining.items() if seconds is not None}
    if not known:
        return None
    chains = longest_chains(depends_on, {name: known.get(name, 0.0) for name in depends_on})
    shared = sum(seconds / (1 if alone(name) else jobs) for name, seconds in known.items())
    return TimeLeft(max(max(chains.values()), shared), len(known) < len(remaining))


def spoken(seconds: float) -> str:
    """Return a duration as one says it: 12 s, 4 min, 1 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
