"""Records a search: one run for the search, a child run for each trial that was trained to the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.tracking.pipeline_run import git_tags, headline
from components.tracking.stage_record import log_artifact, log_values
from components.tracking.store import PROCESS_TAG, close_abandoned_runs, connect, open_experiment, process_tag


def record_search(
    root: Path, selection: Mapping[str, Any], candidates: Mapping[str, Mapping[str, Any]], artifacts: Sequence[Path]
) -> str:
    """Record a search's outcome in the recipe's experiment; return the run's id.

    selection: as metrics/<recipe>/selection.json holds it, a row a trial. candidates: what each row's trial made, by
    its name; recorded as parameters.

    Raises:
        ModelpressError: the MLflow store can't be reached.
    """
    client = connect(root)
    recipe = selection["recipe"]
    experiment = open_experiment(client, root, recipe)
    close_abandoned_runs(client, experiment)
    own = {**git_tags(root), PROCESS_TAG: process_tag(), "modelpress.recipe": recipe, "modelpress.search": recipe}
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    search: str = client.create_run(experiment, run_name=f"search {recipe} {started}", tags=own).info.run_id
    for row in selection["variants"]:
        tags = {**own, "mlflow.parentRunId": search, "modelpress.on_frontier": str(row["on_frontier"]).lower()}
        run_id = client.create_run(experiment, run_name=row["variant"], tags=tags).info.run_id
        log_values(client, run_id, headline(row), candidates[row["variant"]])
        client.set_terminated(run_id)
        if row["variant"] == selection["selected"]:
            log_values(client, search, headline(row))
    verdict = {"modelpress.selected": selection["selected"], "modelpress.met": str(selection["met"]).lower()}
    log_values(client, search, params=selection["budget"], tags={**verdict, "reason": selection["reason"]})
    for path in artifacts:
        log_artifact(client, search, path)
    client.set_terminated(search)
    return search
