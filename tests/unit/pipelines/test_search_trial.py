"""One candidate at each effort, by the components of the stages, in a folder that has no test split at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.core.bundle import Bundle
from components.core.errors import ModelpressError
from components.core.files import new_folder, read_json, write_json
from components.training.weights import save_model
from pipelines.search import trial
from pipelines.search.clock import Clock
from pipelines.search.space import Candidate
from pipelines.search.trial import evaluate, inputs_of
from tests.unit.compression.image_toy import halves, lively, write_facts
from tests.unit.pipelines.test_search_space import params_of_toy
from tests.workspace import REPOSITORY

STATIC = {"precision": "int8", "quantize": {"method": "static"}, "tolerance": {"agreement": 0, "quality_drop": 1}}
SMALLER: list[Any] = [
    {"distill": {"logit": {"alpha": 0.5}, "model": {"width": 8}, "train": {"epochs": 16, "learning_rate": 0.01}}},
    {"prune": {"remove": {"channels": 0.5}, "train": {"epochs": 1, "learning_rate": 0.01}}},
]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a project with prepared data, but for test, and a teacher; return where trials are kept."""
    monkeypatch.chdir(tmp_path)
    trial._digest_of.cache_clear()
    (tmp_path / "components").symlink_to(REPOSITORY / "components")
    params = params_of_toy().model_dump(by_alias=True, mode="json", exclude_none=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    root = write_facts(Path("data/prepared/toy"))
    for split, data in {"train": halves(64), "dev": halves(32)}.items():
        (root / split).mkdir()
        np.save(root / split / "images.npy", data.images)
        np.save(root / split / "classes.npy", data.classes)
    teacher = lively(root, architecture="cnn", width=16, depths=[1, 1])
    with new_folder(Path("models/toy")) as out:
        save_model(teacher, out)
    write_json(Path("metrics/toy/models/toy.json"), {"quality": {"dev": {"accuracy": 50.0}}})
    return tmp_path / ".modelpress" / "search" / "toy" / "work"


def test_each_effort_knows_more_of_a_candidate(work: Path) -> None:
    rows = {
        effort: evaluate("toy", Candidate("toy", SMALLER, STATIC), effort, work) for effort in trial.Effort.__args__
    }
    assert "quality" not in rows["untrained"]
    for effort in ("short", "full"):
        assert set(rows[effort]["quality"]) == {"dev"}
        assert rows[effort]["quality_vs_teacher"] == pytest.approx(rows[effort]["quality"]["dev"]["accuracy"] / 50.0)
    whole = evaluate("toy", Candidate("toy", [], STATIC), "full", work)
    for row in rows.values():  # other units may go where the network is trained, about as many weights
        assert row["parameters"] == pytest.approx(rows["full"]["parameters"], rel=0.1)
        assert row["parameters"] < whole["parameters"] / 2
    assert Bundle.load(Path(rows["full"]["bundle"])).manifest.quantization["method"] == "static"


def test_trials_share_a_student_and_nothing_is_made_twice(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate("toy", Candidate("toy", SMALLER[:1], STATIC), "full", work)
    models = {path: path.stat().st_mtime_ns for path in (work / "models").glob("*/*")}
    other = evaluate("toy", Candidate("toy", SMALLER[:1], {"precision": "fp32"}), "full", work)
    assert first["parent"] == other["parent"] != "toy", "its forms are compared with each other, not the teacher's"
    assert {path: path.stat().st_mtime_ns for path in (work / "models").glob("*/*")} == models
    evaluate("toy", Candidate("toy", SMALLER, STATIC), "full", work)
    assert models.items() <= {path: path.stat().st_mtime_ns for path in (work / "models").glob("*/*")}.items()

    def refuse(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(trial, "export_model", refuse)
    monkeypatch.setattr(trial._Trial, "_apply", refuse)
    assert evaluate("toy", Candidate("toy", SMALLER[:1], STATIC), "full", work) == first


def test_a_changed_teacher_makes_another_trial(work: Path) -> None:
    candidate = Candidate("toy", [], {"precision": "fp32", "tolerance": {"quality_drop": 1}})
    first = evaluate("toy", candidate, "full", work)
    with new_folder(Path("models/toy")) as out:
        save_model(lively(Path("data/prepared/toy"), architecture="cnn", width=8, depths=[1, 1]), out)
    trial._digest_of.cache_clear()
    assert evaluate("toy", candidate, "full", work)["parameters"] < first["parameters"]


def test_a_hand_written_student_trained_anew_is_another_search(work: Path) -> None:
    student = {"recipe": "toy", "from": "toy", "passes": SMALLER}
    variants = {"toy-int8": {"recipe": "toy", "from": "small", **STATIC}}
    params = params_of_toy(students={"small": student}, variants=variants)
    Path("params.yaml").write_text(yaml.safe_dump(params.model_dump(by_alias=True, mode="json", exclude_unset=True)))
    found = set()
    for width in (8, 16):
        with new_folder(Path("models/small")) as out:
            save_model(lively(Path("data/prepared/toy"), architecture="cnn", width=width, depths=[1, 1]), out)
        trial._digest_of.cache_clear()
        found.add(inputs_of("toy"))
    assert len(found) == 2


def test_a_graph_that_lost_more_than_its_tolerance_is_refused(work: Path) -> None:
    write_json(Path("metrics/toy/models/toy.json"), {"quality": {"dev": {"accuracy": 1e6}}})
    with pytest.raises(ModelpressError, match=r"worse than the torch model's"):
        evaluate("toy", Candidate("toy", [], {"precision": "fp32"}), "full", work)


def test_an_impossible_candidate_is_one_clear_line(work: Path) -> None:
    impossible: list[Any] = [{"prune": {"remove": {"heads": 0.5}}}]
    with pytest.raises(ModelpressError, match="this model has channels"):
        evaluate("toy", Candidate("toy", impossible, {"precision": "fp32"}), "untrained", work)


def test_latency_is_estimated_beside_the_teacher(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    row = evaluate("toy", Candidate("toy", [], {"precision": "fp32", "tolerance": {"quality_drop": 1}}), "full", work)
    assert all(set(example) == {"input"} for example in read_json(Path(row["bundle"]) / "golden.json")["examples"])
    clock = Clock({"full": row["bundle"]})
    assert clock.estimate(row, "full") == pytest.approx(clock.teacher_p50, rel=0.8), (
        "the same graph, whatever else runs"
    )
