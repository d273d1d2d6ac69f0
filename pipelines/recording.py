"""What a flow tells MLflow: one run a recipe, one child run an executed stage, the chosen bundle in the registry.

MLflow is imported only once a stage is really executed, or a new bundle is to be registered.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.core.files import read_json, sha256_file, write_json
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

    def start(self, stage: str) -> dict[str, str]:
        """Open a stage's run; return the environment with which its process logs into it."""
        recipe = self._recipes.get(stage)
        if recipe is None:
            return {}
        with self._lock:
            if self._run is None:
                from components.tracking.pipeline_run import PipelineRun

                self._run = PipelineRun(self._root, self._tags)
        return self._run.start_stage(recipe, stage)

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
        self._run.end_stage(
            stage, _STATUS[result.status], StageRecord(params=record.get("params", {}), tags=tags, **paths)
        )

    def close(self, succeeded: bool) -> None:
        """Close the recipes' runs."""
        if self._run is not None:
            self._run.end("FINISHED" if succeeded else "FAILED")


def needs_registration(root: Path, recipe: str) -> bool:
    """Return whether the recipe's selection or one of its bundles differs from what was last registered."""
    state = root / ".modelpress" / "registered.json"
    return not state.exists() or read_json(state).get(recipe) != _registration_digest(root, recipe)


def register(root: Path, recipe: str) -> int | None:
    """Register the recipe's chosen bundle unless the registry has it; return the new version."""
    from components.tracking.registry import register_if_new

    digest = _registration_digest(root, recipe)
    version = register_if_new(root, recipe)
    state = root / ".modelpress" / "registered.json"
    write_json(state, {**(read_json(state) if state.exists() else {}), recipe: digest})
    return version


def _registration_digest(root: Path, recipe: str) -> str:
    """Return what stands for the chosen bundle and the registry it goes to."""
    files = [root / "metrics" / recipe / "selection.json", *sorted(root.glob(f"bundles/{recipe}/*/manifest.json"))]
    parts = [os.environ.get("MLFLOW_TRACKING_URI", ""), *(sha256_file(path) for path in files if path.exists())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
