"""What is shown while a flow runs."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipelines.dag import PlannedStage
from pipelines.progress import MAX_ROWS, LiveView, PlainView, RunView


def begun(view: RunView, root: Path, count: int) -> list[str]:
    names = [f"stage@{number}" for number in range(count)]
    view.begin(root, {name: PlannedStage(name, (), True, False) for name in names}, jobs=1)
    return names


def shown(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(view.render())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_plain_view_prints_one_line_a_change(tmp_path: Path) -> None:
    output = io.StringIO()
    view = PlainView(Console(file=output, width=60))
    one, two, three = begun(view, tmp_path, 3)
    view.ended(one, "Cached", "unchanged since dvc.lock")
    view.running(two)
    view.line(two, "progress 1/2 epochs")
    view.ended(two, "Completed", "ran 63.0 s", 63.0)
    view.running(three)
    view.ended(three, "Failed", "a long reason " * 10)
    lines = [re.sub(r"^\[\d\d:\d\d:\d\d\] ", "", line).rstrip() for line in output.getvalue().splitlines()]
    assert lines[:4] == ["stage@0 Cached (1 of 3)", "stage@1 running",
                         "stage@1 done in 63 s (2 of 3, about 63 s left)", "stage@2 running"]  # fmt: skip
    assert lines[4].startswith("stage@2 Failed: a long reason")
    assert len(lines) == 5


def test_plain_view_says_why_a_stage_is_tried_again(tmp_path: Path) -> None:
    output = io.StringIO()
    view = PlainView(Console(file=output, width=60))
    (one,) = begun(view, tmp_path, 1)
    view.running(one)
    view.line(one, "OSError: [Errno 28] No space left on device")
    view.running(one)
    lines = [re.sub(r"^\[\d\d:\d\d:\d\d\] ", "", line).rstrip() for line in output.getvalue().splitlines()]
    failed = "stage@0 failed: OSError: [Errno 28] No space left on device; trying again"
    assert lines == ["stage@0 running", failed, "stage@0 running"]


def test_plain_view_tells_of_a_long_stage_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0, 61.0, 70.0, 125.0])
    monkeypatch.setattr(
        "pipelines.progress.time", SimpleNamespace(monotonic=lambda: next(clock), strftime=time.strftime)
    )
    output = io.StringIO()
    view = PlainView(Console(file=output, width=60))
    (one,) = begun(view, tmp_path, 1)
    view.stages[one].state, view.stages[one].shown = "Running", next(clock)
    for number in range(1, 5):
        view.line(one, f"progress {number}/5 epochs")
    lines = [re.sub(r"^\[\d\d:\d\d:\d\d\] ", "", line).rstrip() for line in output.getvalue().splitlines()]
    assert lines == ["stage@0: progress 2/5 epochs", "stage@0: progress 4/5 epochs"]


def test_live_view_stays_bounded_and_keeps_failed_and_running_stages(tmp_path: Path) -> None:
    view = LiveView(Console(file=io.StringIO()))
    names = begun(view, tmp_path, 300)
    for name in names[:200]:
        view.ended(name, "Cached")
    view.ended(names[3], "Failed", "[broken] markup")
    view.running(names[250])
    view.line(names[250], "newest [line]")
    text = shown(view)
    assert len(text.splitlines()) <= MAX_ROWS + 3
    assert "stage@3 " in text
    assert "[broken] markup" in text
    assert "newest [line]" in text
    assert "200 of 300 stages" in text


def test_live_view_estimates_from_progress_lines(tmp_path: Path) -> None:
    view = LiveView(Console(file=io.StringIO()))
    (name,) = begun(view, tmp_path, 1)
    view.running(name)
    view.stages[name].started -= 30  # type: ignore[operator]
    view.line(name, "progress 1/4 epochs")
    assert "90 s" in shown(view) or "2 min" in shown(view)


def test_tail_keeps_the_last_lines(tmp_path: Path) -> None:
    view = RunView()
    (name,) = begun(view, tmp_path, 1)
    for number in range(100):
        view.line(name, str(number))
    assert list(view.stages[name].tail)[-1] == "99"
    assert len(view.stages[name].tail) < 30
