"""When a stage may start: after its dependencies, at most so many at once, and some alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence


class Schedule:
    """Decides what may start now; it neither starts nor waits for anything.

    A stage that runs alone waits until nothing else runs, and nothing else starts meanwhile: timings taken beside
    other work would be timings of that work, and a training that has all cores is slowed by whatever shares them.
    """

    def __init__(
        self, depends_on: Mapping[str, Sequence[str]], jobs: int, alone: Callable[[str], bool] = lambda name: False
    ) -> None:
        self._depends_on = {name: set(names) for name, names in depends_on.items()}
        self._waiting = list(depends_on)
        self._jobs = max(1, jobs)
        self._alone = alone
        self._running: set[str] = set()
        self._succeeded: set[str] = set()
        self._failed: set[str] = set()

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing is left to start."""
        return not self._waiting and not self._running

    def doomed(self) -> list[str]:
        """Take and return the stages that can never start because a dependency failed or was itself doomed."""
        doomed = []
        while found := [name for name in self._waiting if self._depends_on[name] & self._failed]:
            doomed += found
            self._failed.update(found)
            self._waiting = [name for name in self._waiting if name not in self._failed]
        return doomed

    def start(self) -> list[str]:
        """Take and return the stages that may start now, in the order given; each counts as running until `finish`."""
        started = []
        for name in list(self._waiting):
            if not self._depends_on[name] <= self._succeeded:
                continue
            if len(self._running) >= self._jobs or any(map(self._alone, self._running)):
                break
            if self._alone(name) and self._running:
                break  # keep its turn: later stages must not overtake it for ever
            self._waiting.remove(name)
            self._running.add(name)
            started.append(name)
        return started

    def finish(self, name: str, succeeded: bool) -> None:
        """Record how a running stage ended."""
        self._running.remove(name)
        (self._succeeded if succeeded else self._failed).add(name)
