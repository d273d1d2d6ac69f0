"""What a person sees while a flow runs: a live table on a terminal, plain lines in a pipe."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pipelines.dag import PlannedStage
from pipelines.durations import Durations, TimeLeft, share_done, spoken, stage_time_left, time_left

TAIL_LINES = 15  # of a failed stage, shown to the user
NEWS_S = 60  # between two lines of a stage that runs, in a plain view
MAX_ROWS = 18  # of the live table, however many stages there are
FINAL = {"Completed", "Cached", "Restored", "Failed", "Skipped"}
STYLES = {"Running": "cyan", "Completed": "green", "Cached": "dim", "Restored": "dim", "Failed": "bold red",
          "Skipped": "yellow", "Waiting": "dim"}  # fmt: skip


@dataclass
class StageView:
    """What is known about one stage while the flow runs."""

    state: str = "Waiting"
    started: float | None = None
    seconds: float = 0.0
    share: float | None = None
    detail: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    shown: float = 0.0  # when a plain view last said something of it

    @property
    def elapsed(self) -> float:
        """Seconds since its start, or what it took."""
        return time.monotonic() - self.started if self.state == "Running" and self.started else self.seconds


class RunView:
    """The state of all stages of a run, told by the flow from several threads; silent by itself."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=False)
        self.stages: dict[str, StageView] = {}
        self._lock = threading.RLock()
        self._depends_on: dict[str, tuple[str, ...]] = {}
        self._durations: Durations | None = None
        self._jobs = 1
        self._alone: Callable[[str], bool] = lambda name: False

    def begin(
        self, root: Path, plan: Mapping[str, PlannedStage], jobs: int, alone: Callable[[str], bool] = lambda name: False
    ) -> None:
        """Learn the plan, how many stages run at a time, and which of them beside none."""
        self._durations, self._jobs, self._alone = Durations(root), jobs, alone
        self._depends_on = {name: stage.depends_on for name, stage in plan.items()}
        self.stages = {name: StageView() for name in plan}

    def running(self, name: str) -> None:
        """Note that a stage starts (or is tried again)."""
        with self._lock:
            self.stages[name].state, self.stages[name].started = "Running", time.monotonic()
            self.stages[name].share = None
            self.changed(name)

    def line(self, name: str, text: str) -> None:
        """Note a line a running stage printed."""
        stage = self.stages[name]
        stage.tail.append(text)
        stage.share = share_done(text) or stage.share

    def ended(self, name: str, state: str, detail: str = "", seconds: float | None = None) -> None:
        """Note a stage's final state, and the seconds its own work took where the flow knows them."""
        with self._lock:
            stage = self.stages[name]
            stage.seconds = stage.elapsed if seconds is None else seconds
            stage.state, stage.detail = state, detail
            if state == "Completed" and self._durations:
                self._durations.record(name, stage.seconds)
            self.changed(name)

    def changed(self, name: str) -> None:
        """Show a stage's new state."""

    def shown(self) -> AbstractContextManager[Any]:
        """Return the context in which the view is on screen."""
        return nullcontext()

    @property
    def finished(self) -> int:
        """How many stages have ended."""
        return sum(stage.state in FINAL for stage in self.stages.values())

    def remaining_seconds(self, name: str) -> float | None:
        """Return an unfinished stage's seconds left, None where nothing is known."""
        stage = self.stages[name]
        expected = self._durations.expected(name) if self._durations else None
        return stage_time_left(expected, stage.elapsed if stage.state == "Running" else 0.0, stage.share)

    def time_left(self) -> TimeLeft | None:
        """Return the run's time left, None where nothing is known."""
        names = [name for name, stage in self.stages.items() if stage.state not in FINAL]
        remaining = {name: self.remaining_seconds(name) for name in names}
        return time_left(self._depends_on, remaining, self._jobs, self._alone)


class PlainView(RunView):
    """One line a change of state, and each minute the newest line of a stage that runs: for pipes and CI."""

    def running(self, name: str) -> None:
        stage = self.stages[name]
        if stage.state == "Running":
            self._print(f"{name} failed{f': {stage.tail[-1]}' if stage.tail else ''}; trying again")
        super().running(name)
        stage.shown = time.monotonic()

    def line(self, name: str, text: str) -> None:
        super().line(name, text)
        stage, now = self.stages[name], time.monotonic()
        if now - stage.shown >= NEWS_S:
            stage.shown = now
            self._print(f"{name}: {text}")

    def changed(self, name: str) -> None:
        stage = self.stages[name]
        count = f"{self.finished} of {len(self.stages)}"
        if stage.state == "Running":
            self._print(f"{name} running")
        elif stage.state == "Completed":
            left = self.time_left() if self.finished < len(self.stages) else None
            self._print(f"{name} done in {spoken(stage.seconds)} ({count}{f', {left}' if left else ''})")
        else:
            detail = f": {stage.detail}" if stage.detail and stage.state in ("Failed", "Skipped") else ""
            self._print(f"{name} {stage.state}{detail} ({count})")

    def _print(self, text: str) -> None:
        clock = time.strftime("%H:%M:%S")
        self.console.print(f"[{clock}] {text}", markup=False, highlight=False, soft_wrap=True)


class LiveView(RunView):
    """A table that redraws itself: running stages with their newest line, then what is next and what was last."""

    def shown(self) -> AbstractContextManager[Any]:
        return Live(get_renderable=self.render, console=self.console, refresh_per_second=4, transient=False)

    def render(self) -> Table:
        """Return the table as it is now, at most MAX_ROWS stages."""
        table = Table(box=None, pad_edge=False, caption_justify="left", caption=self._caption(), caption_style="")
        for title, justify in (("stage", "left"), ("state", "left"), ("elapsed", "right"), ("left", "right")):
            table.add_column(title, justify=justify, header_style="bold", no_wrap=True)  # type: ignore[arg-type]
        table.add_column("", style="dim", no_wrap=True, overflow="ellipsis", ratio=1)
        for name in self._visible():
            self._add_row(table, name)
        return table

    def _visible(self) -> list[str]:
        """Return the stages worth the space, in plan order: failed, running, the next ones, the latest ones."""
        names = list(self.stages)
        if len(names) <= MAX_ROWS:
            return names
        place = {name: index for index, name in enumerate(names)}

        def urgency(name: str) -> tuple[int, int]:
            state = self.stages[name].state
            rank = {"Running": 0, "Failed": 1, "Waiting": 2}.get(state, 3)
            return rank, -place[name] if state in FINAL else place[name]

        ranked = sorted(names, key=urgency)
        chosen = set(ranked[:MAX_ROWS])
        return [name for name in names if name in chosen]

    def _add_row(self, table: Table, name: str) -> None:
        stage = self.stages[name]
        elapsed = spoken(stage.elapsed) if stage.started else ""
        left = self.remaining_seconds(name) if stage.state not in FINAL else None
        note = stage.tail[-1] if stage.state == "Running" and stage.tail else stage.detail
        state = f"[{STYLES.get(stage.state, '')}]{stage.state}[/]"
        table.add_row(escape(name), state, elapsed, spoken(left) if left is not None else "", escape(note))

    def _caption(self) -> str:
        counts = Counter(stage.state for stage in self.stages.values())
        text = ", ".join(f"{counts[state]} {state.lower()}" for state in STYLES if counts[state])
        left = self.time_left() if self.finished < len(self.stages) else None
        return f"{self.finished} of {len(self.stages)} stages ({text}){f', {left}' if left else ''}"


_view: ContextVar[RunView | None] = ContextVar("view", default=None)


def current_view() -> RunView:
    """Return the view the flow reports to: the one set by `viewing`, else a silent one."""
    return _view.get() or RunView()


@contextmanager
def viewing(view: RunView) -> Iterator[RunView]:
    """Let flows started inside the block report to a view."""
    token = _view.set(view)
    try:
        yield view
    finally:
        _view.reset(token)
