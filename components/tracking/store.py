"""Where MLflow keeps what modelpress records: a local SQLite file by default, a server through MLFLOW_TRACKING_URI.

Importing MLflow costs more than a second, so it happens in the first call here, never at import.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import ModelpressError

if TYPE_CHECKING:
    from mlflow import MlflowClient

STATE = Path(".modelpress")
DATABASE = STATE / "mlflow.db"
ARTIFACTS = STATE / "mlartifacts"
PROCESS_TAG = "modelpress.process"


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI where it is set, else the SQLite database below the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / DATABASE).resolve()}"


def is_local(root: Path) -> bool:
    """Return whether runs are recorded in the project's own database."""
    return tracking_uri(root) == f"sqlite:///{(root / DATABASE).resolve()}"


def connect(root: Path) -> MlflowClient:
    """Return a client of the project's MLflow store, creating the local database if there is none.

    Raises:
        ModelpressError: the store can't be reached or opened.
    """
    from filelock import FileLock

    _quiet_environment()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = tracking_uri(root)
    (root / STATE).mkdir(parents=True, exist_ok=True)
    # Two processes that create the tables of a fresh database at once break each other's migration.
    with FileLock(root / STATE / "mlflow.lock"):
        try:
            if is_local(root) and not (root / DATABASE).exists():
                _create_database(root / DATABASE)
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
        except (MlflowException, OSError) as error:
            raise store_problem(root, error) from None
    return client


def store_problem(root: Path, error: Exception) -> ModelpressError:
    """Return what to raise where the store can't be reached or opened."""
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return ModelpressError(without_passwords(f"MLflow store {tracking_uri(root)}: {reason}; check MLFLOW_TRACKING_URI"))


def _create_database(path: Path) -> None:
    """Make MLflow's tables beside their place and move them there: MLflow refuses a database killed half-way."""
    from mlflow import MlflowClient

    begun = path.with_name(f"{path.name}.new")
    for leftover in path.parent.glob(f"{begun.name}*"):
        leftover.unlink()
    uri = f"sqlite:///{begun.resolve()}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
    begun.replace(path)


def without_passwords(text: str) -> str:
    """Return a text fit to be shown: credentials in the URIs it names are masked."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _quiet_environment() -> None:
    """Set what MLflow reads: no telemetry, no bars over our own progress, no minutes of retries on a dead server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


def open_experiment(client: MlflowClient, root: Path, name: str) -> str:
    """Return the id of the experiment of that name: created, or brought back where it was deleted.

    Local artifacts get an absolute place of their own, so that they do not depend on the folder a command starts in.
    """
    from filelock import FileLock

    with FileLock(root / STATE / "mlflow.lock"):
        known = client.get_experiment_by_name(name)
        if known is None:
            place = (root / ARTIFACTS / name).resolve().as_uri() if is_local(root) else None
            created: str = client.create_experiment(name, artifact_location=place)
            return created
        if known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)
        experiment_id: str = known.experiment_id
        return experiment_id


def process_tag() -> str:
    """Return this process as `host:pid:start time`, by which a later one can tell whether it still lives."""
    import psutil

    return f"{socket.gethostname()}:{os.getpid()}:{int(psutil.Process().create_time())}"


def close_abandoned_runs(client: MlflowClient, experiment_id: str) -> int:
    """Mark runs KILLED that are RUNNING but whose process on this machine is gone; return how many."""
    runs = client.search_runs([experiment_id], f"attributes.status = 'RUNNING' and tags.`{PROCESS_TAG}` != ''")
    abandoned = [run for run in runs if _is_dead(run.data.tags[PROCESS_TAG])]
    for run in abandoned:
        client.set_terminated(run.info.run_id, "KILLED")
    return len(abandoned)


def _is_dead(tag: str) -> bool:
    import psutil

    host, pid, started = tag.rsplit(":", 2)
    if host != socket.gethostname():
        return False  # another machine's processes can't be seen from here
    try:
        process = psutil.Process(int(pid))
        # A pid is used again after a while; its start time (good to a second or two) tells the two apart.
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - int(started)) > 5
    except psutil.NoSuchProcess:
        return True
