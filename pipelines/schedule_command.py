"""`modelpress schedule`: a Prefect deployment of one recipe, served from this machine until Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from components.core.errors import ModelpressError
from components.core.params import load_params
from pipelines.dag import targets_of
from pipelines.prefect_server import known_server, set_prefect_defaults


def serve(root: Path, recipe: str, cron: str, parameters: Mapping[str, Any], console: Console) -> None:
    """Serve the deployment; each run is a process of its own in this folder, logged in Prefect.

    parameters: of the flow, beside the recipe.

    Raises:
        ModelpressError: no such recipe, no cron expression, no Prefect server.
    """
    targets_of([recipe], load_params(root / "params.yaml"))
    set_prefect_defaults(root)
    address = known_server(root)
    if address is None:
        raise ModelpressError(
            "a schedule needs a Prefect server: start `modelpress ui` beside it, or set PREFECT_API_URL"
        )
    os.environ["PREFECT_API_URL"] = address
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"  # nothing else shows what goes on here
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.client.schemas.schedules import CronSchedule

    from pipelines.flow import pipeline

    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise ModelpressError(f'--cron {cron!r}: not a cron expression; write e.g. --cron "0 3 * * *"') from None
    console.print(
        f"{recipe} runs at {cron} (UTC); see {address.removesuffix('/api')}. Ctrl-C ends the schedule.", highlight=False
    )
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    pipeline.serve(
        name=recipe,
        cron=cron,
        parameters={"recipes": [recipe], **parameters},
        global_limit=one,  # a run that finds the one before still going is cancelled: the next will see the new data
        pause_on_shutdown=False,
    )
