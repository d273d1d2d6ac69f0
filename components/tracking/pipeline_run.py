"""Records one pipeline run: a parent run a recipe, a child run a stage. Does nothing, and imports no MLflow, before
the first stage that really runs, so an unchanged pipeline costs nothing here."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.core.files import read_json, sha256_file
from components.evaluation.selection import chosen_row
from components.tracking.stage_record import (
    StageRecord,
    flat_numbers,
    log_artifact,
    log_record,
    log_values,
    metric_name,
)
from components.tracking.store import (
    PROCESS_TAG,
    close_abandoned_runs,
    connect,
    open_experiment,
    process_tag,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["PipelineRun", "StageRecord"]

StageStatus = Literal["FINISHED", "FAILED", "RESTORED"]


class PipelineRun:
    """The recorder of one pipeline run; safe to call from several threads.

    root: the project's folder (params.yaml, metrics/, reports/, .modelpress/).
    tags: put on every parent run, beside the git commit and the hash of dvc.lock.
    """

    def __init__(self, root: Path, tags: Mapping[str, str]) -> None:
        self._root = root
        self._tags = dict(tags)
        self._lock = threading.Lock()
        self._client: MlflowClient | None = None
        self._parents: dict[str, tuple[str, str]] = {}  # recipe -> experiment id, parent run id
        self._stages: dict[str, str] = {}  # stage -> run id, of stages started and not yet ended

    def start_stage(self, recipe: str, stage: str) -> dict[str, str]:
        """Open a run for a stage and return the environment variables its process needs to log to that run.

        Raises:
            ModelpressError: the MLflow store can't be reached.
        """
        with self._lock:
            client = self._connect()
            experiment, parent = self._parents.get(recipe) or self._open_parent(client, recipe)
        run = client.create_run(
            experiment,
            run_name=stage,
            tags={**self._own_tags(), "mlflow.parentRunId": parent, "modelpress.stage": stage},
        )
        with self._lock:
            self._stages[stage] = run.info.run_id
        return {"MLFLOW_TRACKING_URI": tracking_uri(self._root), "MODELPRESS_RUN_ID": run.info.run_id}

    def end_stage(self, stage: str, status: StageStatus, record: StageRecord) -> None:
        """Record what a started stage left and close its run; a stage restored from a cache leaves no run."""
        with self._lock:
            client, run_id = self._connect(), self._stages.pop(stage)
        if status == "RESTORED":
            client.set_terminated(run_id)  # a deleted run must not look alive if someone restores it
            client.delete_run(run_id)
            return
        try:
            log_record(client, run_id, record)
        finally:
            client.set_terminated(run_id, status)

    def end(self, failed: Collection[str]) -> None:
        """Close the parent runs with dvc.lock's hash; those not `failed` with their headline figures and report too."""
        with self._lock:
            left, self._stages = self._stages, {}
            parents, self._parents = self._parents, {}
            client = self._client
        if client is None:
            return
        for run_id in left.values():
            client.set_terminated(run_id, "KILLED")
        lock = self._root / "dvc.lock"
        tags = {"modelpress.dvc_lock_sha256": sha256_file(lock)} if lock.is_file() else {}
        for recipe, (_, run_id) in parents.items():
            log_values(client, run_id, tags=tags)
            if recipe not in failed:  # after a failure the files on disk may be another run's
                self._log_outcome(client, recipe, run_id)
            client.set_terminated(run_id, "FAILED" if recipe in failed else "FINISHED")

    def _connect(self) -> MlflowClient:
        if self._client is None:
            self._client = connect(self._root)
        return self._client

    def _own_tags(self) -> dict[str, str]:
        return {**self._tags, PROCESS_TAG: process_tag()}

    def _open_parent(self, client: MlflowClient, recipe: str) -> tuple[str, str]:
        experiment = open_experiment(client, self._root, recipe)
        close_abandoned_runs(client, experiment)
        tags = {**git_tags(self._root), **self._own_tags(), "modelpress.recipe": recipe}
        run = client.create_run(experiment, run_name=f"{recipe} {time.strftime('%Y-%m-%d %H:%M:%S')}", tags=tags)
        self._parents[recipe] = (experiment, run.info.run_id)
        return self._parents[recipe]

    def _log_outcome(self, client: MlflowClient, recipe: str, run_id: str) -> None:
        selection = self._root / "metrics" / recipe / "selection.json"
        if selection.is_file():
            chosen = chosen_row(read_json(selection))
            log_values(client, run_id, headline(chosen), tags={"modelpress.selected": chosen["variant"]})
            log_artifact(client, run_id, self._root / "bundles" / recipe / chosen["variant"] / "MODEL_CARD.md")
        log_artifact(client, run_id, self._root / "reports" / recipe)


def headline(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a variant that make MLflow's table of runs worth reading."""
    figures = {
        **row["quality"],
        "quality_vs_teacher": row["quality_vs_teacher"],
        "size_mb": row["size_bytes"] / 1e6,
        "p50_ms": {batch: timing["p50"] for batch, timing in row["latency_ms"].items()},
        "throughput": row["throughput"],
    }
    return {metric_name(key): value for key, value in flat_numbers(figures).items()}


def git_tags(root: Path) -> dict[str, str]:
    """Return the checked-out commit and whether tracked files differ from it; nothing outside a git repository."""

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--verify", "HEAD")
    if not commit:
        return {}
    dirty = git("status", "--porcelain", "--untracked-files=no")
    return {"mlflow.source.git.commit": commit, "modelpress.git_dirty": str(bool(dirty)).lower()}
