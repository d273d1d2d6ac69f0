"""What a flow tells MLflow: one run a recipe, one child run an executed stage.

MLflow is imported only once a stage is really executed. A record that breaks while the flow runs breaks no stage: what
DVC has kept is done, whatever MLflow's store says.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipelines.stage_host import StageResult

if TYPE_CHECKING:
    from components.tracking.pipeline_run import PipelineRun

_STATUS: dict[str, Literal["FINISHED", "FAILED", "RESTORED"]] = {
    "executed": "FINISHED", "failed": "FAILED", "restored": "RESTORED", "unchanged": "RESTORED",
}  # fmt: skip


class Recorder:
    """Records the stages of one flow run; `recipes` says whose run each belongs to (a stage of none isn't recorded)."""

    def __init__(self, root: Path, recipes: Mapping[str, str | None], tags: Mapping[str, str]) -> None:
        self._root, self._recipes, self._tags = root, recipes, tags
        self._lock = threading.Lock()
        self._run: PipelineRun | None = None
        self._broken = False

    def start(self, stage: str) -> dict[str, str]:
        """Open a stage's run; return the environment with which its process logs into it."""
        recipe = self._recipes.get(stage)
        if recipe is None:
            return {}
        with self._lock:
            if self._run is None:
                from components.tracking.pipeline_run import PipelineRun

                self._run = PipelineRun(self._root, self._tags)
        with self._breaking_nothing():
            return self._run.start_stage(recipe, stage)
        return {}

    def end(self, stage: str, result: StageResult) -> None:
        """Close a stage's run."""
        if self._run is None or self._recipes.get(stage) is None:
            return
        from components.tracking.pipeline_run import StageRecord

        record = result.record
        tags = {
            "seconds": f"{result.seconds:.2f}",
            **{key: str(record[key]) for key in ("command", "lock_hash") if key in record},
        }
        if result.error:
            tags["error"] = result.error
        paths = {
            kind: [self._root / path for path in record.get(kind, [])] for kind in ("metrics", "plots", "artifacts")
        }
        with self._breaking_nothing():
            self._run.end_stage(
                stage, _STATUS[result.status], StageRecord(params=record.get("params", {}), tags=tags, **paths)
            )

    def close(self, unfinished: Iterable[str]) -> None:
        """Close the recipes' runs; those of the unfinished stages have failed."""
        if self._run is not None:
            with self._breaking_nothing():
                self._run.end({recipe for stage in unfinished if (recipe := self._recipes.get(stage))})

    @contextmanager
    def _breaking_nothing(self) -> Iterator[None]:
        """Say once that records are lost, instead of failing what was recorded."""
        try:
            yield
        except Exception as error:  # MLflow lets errors of SQLite, SQLAlchemy and HTTP through as they are
            if not self._broken:
                self._broken = True
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                print(f"MLflow has not recorded everything: {reason}; the stages' results are whole", file=sys.stderr)
