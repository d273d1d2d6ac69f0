from __future__ import annotations

from pathlib import Path

from components.core.files import write_text
from components.core.params import Budget
from components.evaluation.selection import select
from components.tracking.search_record import record_search
from components.tracking.store import connect
from tests.unit.evaluation.made_up import latency, variant


def test_a_search_is_a_run_with_a_child_for_each_variant(root: Path) -> None:
    budget = Budget(max_size_mb=1, max_p50_ms=5, min_quality=0.9)
    rows = [variant("toy-fp32", 38.0, 2.0), variant("trial-3", 37.0, 0.5)]
    selection = select("toy", budget, rows, latency({"toy-fp32": 4.0, "trial-3": 1.0}))
    write_text(root / "frontier.svg", "<svg/>")
    candidates = {
        "toy-fp32": {"start": "toy", "passes": [], "variant": {"precision": "fp32"}},
        "trial-3": {"start": "toy", "passes": [{"distill": {"model": {"width": 8}}}], "variant": {"precision": "int8"}},
    }
    run_id = record_search(root, selection, candidates, [root / "frontier.svg", root / "missing.yaml"])

    client = connect(root)
    search = client.get_run(run_id)
    assert search.info.status == "FINISHED"
    assert search.data.tags["modelpress.selected"] == "trial-3"
    limits = {"max_size_mb": "1.0", "max_p50_ms": "5.0", "min_quality": "0.9"}
    assert search.data.params == {**limits, "gain": "either"}
    assert search.data.metrics["size_mb"] == 0.5
    assert [file.path for file in client.list_artifacts(run_id)] == ["frontier.svg"]
    children = {
        run.info.run_name: run
        for run in client.search_runs([search.info.experiment_id])
        if run.data.tags.get("mlflow.parentRunId") == run_id
    }
    assert set(children) == {"toy-fp32", "trial-3"}
    child = children["trial-3"]
    assert child.data.params["passes.0.distill.model.width"] == "8"
    assert child.data.metrics["p50_ms.batch_1"] == 1.0
    assert child.data.tags["modelpress.on_frontier"] == "true"
