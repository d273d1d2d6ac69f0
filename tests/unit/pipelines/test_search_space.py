"""What a search may try, and the passes and variant that a point of it stands for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.compression.passes import parse_passes
from components.core.errors import ConfigError
from components.core.files import new_folder
from components.core.params import Params, Variant, parse_params
from components.training.weights import save_model
from pipelines.search.space import Candidate, Space, describe_space, size_options, smaller_values
from pipelines.search.trial import at_effort
from tests.unit.compression.image_toy import lively, write_facts

SPACE = Space(
    recipe="toy",
    sizes={"width": [32, 16, 8], "depths": [[2, 2], [1, 1]]},
    removals={"channels": [0.0, 0.5]},
    forms={
        "fp32": {"precision": "fp32", "runtime": "cpu", "options": {}},
        "int8-static": {
            "precision": "int8",
            "quantize": {"method": "static"},
            "runtime": "cpu",
            "options": {},
            "tolerance": {"agreement": 0.9},
        },
    },
    drops=[0.003, 0.01],
    students={"label_smoothing 0.0": {"logit": {"temperature": 2.0, "alpha": 0.7}, "model": {"label_smoothing": 0.0}}},
    prune={"criterion": "magnitude", "train": {"epochs": 1}},
    made={"toy": []},
)


def test_the_first_values_are_the_teacher_as_it_is() -> None:
    candidate = SPACE.candidate(dict.fromkeys(SPACE.choices(), 0))
    assert candidate.passes == []
    assert candidate.start == "toy"
    assert candidate.variant["precision"] == "fp32"


def test_a_point_names_passes_and_a_variant_that_params_yaml_takes() -> None:
    candidate = SPACE.candidate(
        {"model.width": 1, "model.depths": 1, "remove.channels": 1, "form": 1, "quality_drop": 1}
    )
    assert candidate.passes == [
        {
            "distill": {
                **SPACE.students["label_smoothing 0.0"],
                "model": {"label_smoothing": 0.0, "width": 16, "depths": [1, 1]},
            }
        },
        {"prune": {"remove": {"channels": 0.5}, "criterion": "magnitude", "train": {"epochs": 1}}},
    ]
    assert candidate.variant["tolerance"] == {"agreement": 0.9, "quality_drop": 0.01}
    parse_passes(candidate.passes, "passes")
    Variant.model_validate({"recipe": "toy", "from": "toy", **candidate.variant})
    assert str(candidate) == (
        "distill label_smoothing 0.0 width 16 depths [1, 1]; prune channels 0.5; int8 static, at most 1.0% lost"
    )


def test_a_loss_allowed_to_static_int8_makes_no_other_fp32_candidate() -> None:
    one, other = (SPACE.candidate({"model.width": 1, "quality_drop": drop}) for drop in (0, 1))
    assert one.identity == other.identity


def test_a_point_that_is_a_hand_written_student_takes_it_as_its_stage_made_it() -> None:
    point = {"model.width": 1, "remove.channels": 1}
    trained = SPACE.candidate(point)
    space = replace(SPACE, made={"toy": [], "half": trained.passes[:1], "small": trained.passes})
    assert space.candidate(point) == Candidate("small", [], trained.variant)
    assert space.candidate({"model.width": 1}).start == "half"
    assert space.candidate({"model.width": 2}).passes


def test_parameters_with_one_value_are_not_searched() -> None:
    space = replace(SPACE, removals={"channels": [0.0]}, forms={"fp32": SPACE.forms["fp32"]})
    assert list(space.choices()) == ["model.width", "model.depths"]


def test_a_hand_written_variant_has_a_point_that_stands_for_it() -> None:
    passes: list[Any] = [{"distill": {"model": {"width": 16}}}, {"prune": {"remove": {"channels": 0.5}}}]
    variant = Variant.model_validate(
        {"recipe": "toy", "from": "small", "precision": "int8", "quantize": {"method": "static"}}
    )
    assert SPACE.point(passes, variant) == {
        "model.width": 1,
        "model.depths": 0,
        "remove.channels": 1,
        "form": 1,
        "quality_drop": 0,
    }


def test_a_neighbour_is_one_size_or_share_away_or_has_one_other_form() -> None:
    here = {"model.width": 1, "model.depths": 0, "remove.channels": 1, "form": 1, "quality_drop": 0}
    near = SPACE.neighbours(here)
    changed = [{name: index for name, index in point.items() if index != here[name]} for point in near]
    assert changed == [
        {"model.width": 0},
        {"model.width": 2},
        {"model.depths": 1},
        {"remove.channels": 0},
        {"form": 0},
        {"quality_drop": 1},
    ]
    many = replace(SPACE, forms=dict.fromkeys(("a", "b", "c", "d"), SPACE.forms["fp32"]))
    first = dict.fromkeys(many.choices(), 0)
    assert [point["form"] for point in many.neighbours(first) if point["form"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("value", "smaller"),
    [
        (64, [48, 32, 24, 16, 8]),
        (3, [2, 1]),
        (1, []),
        (True, []),
        ("gru", []),
        ([0, 3, 3], [[0, 2, 2], [0, 1, 1]]),
        ([64, 32], [[48, 24], [32, 16], [24, 16], [16, 8], [8, 8]]),
    ],
)
def test_smaller_values_are_smaller_and_each_once(value: Any, smaller: list[Any]) -> None:
    found = smaller_values(value)
    assert found[: len(smaller)] == smaller
    assert len(found) == len(smaller)


def test_an_option_is_a_size_where_a_smaller_value_makes_fewer_parameters() -> None:
    def parameters(changes: dict[str, Any]) -> int:
        model = {"width": 32, "heads": 4, "stride": 2, "dropout": 0.1, **changes}
        if model["stride"] != 2:
            raise ConfigError(["stride"])
        return int(model["width"]) ** 2

    model = {"width": 32, "heads": 4, "stride": 2, "dropout": 0.1}
    assert size_options(model, parameters) == {"width": [32, 24, 16, 8]}


@pytest.mark.parametrize(
    ("effort", "expected"),
    [
        (
            "short",
            [
                {"distill": {"model": {}, "sequence": {"beam": 2}, "train": {"epochs": 3, "warmup_steps": 5}}},
                {"prune": {"remove": {"ffn": 0.5}, "train": {"epochs": 1}}},
            ],
        ),
        ("untrained", [{"distill": {"model": {}}}, {"prune": {"remove": {"ffn": 0.5}, "batches": 1}}]),
    ],
)
def test_a_cheap_look_has_the_same_passes_with_less_training(effort: Any, expected: list[Any]) -> None:
    passes: list[Any] = [
        {"distill": {"model": {}, "sequence": {"beam": 2}}},
        {"prune": {"remove": {"ffn": 0.5}, "train": {"epochs": 1}}},
    ]
    assert at_effort(passes, effort, {"epochs": 24, "warmup_steps": 40}) == expected
    assert at_effort(passes, "full", {"epochs": 24, "warmup_steps": 40}) == passes


@pytest.mark.parametrize("effort", ["untrained", "short", "full"])
@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "threshold"])
def test_a_cheap_look_at_any_pruning_is_one_that_the_pass_takes(effort: Any, criterion: str) -> None:
    passes = [{"prune": {"remove": {"channels": 0.5}, "criterion": criterion}}]
    assert len(parse_passes(at_effort(passes, effort, {"epochs": 24}), "x")) == 1


def params_of_toy(**more: Any) -> Params:
    recipe = {
        "task": "image_classification",
        "dataset": "d",
        "data": {},
        "model": {},
        "train": {"epochs": 8, "batch_size": 16, "learning_rate": 0.1},
        "budget": {"max_size_mb": 1, "max_p50_ms": 1, "min_quality": 0.9},
    }
    blocks = {
        "datasets": {"d": {"source": {"kind": "generated"}, "split": {}}},
        "recipes": {"toy": recipe},
        "students": {},
        "variants": {"toy-fp32": {"recipe": "toy", "from": "toy", "precision": "fp32"}},
        **more,
    }
    import yaml

    return parse_params(yaml.safe_dump(blocks), Path("params.yaml"))


def write_teacher(folder: Path, **model: Any) -> Path:
    """Write the toy's facts and models/toy; return the prepared data."""
    root = write_facts(folder / "data")
    with new_folder(folder / "models" / "toy") as out:
        save_model(lively(root, **model), out)
    return root


def test_the_space_of_a_recipe_is_read_from_its_task_and_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_teacher(tmp_path, architecture="cnn", width=32, depths=[1, 3])
    space = describe_space(params_of_toy(), "toy", root)
    assert space.sizes == {"width": [32, 24, 16, 8], "depths": [[1, 3], [1, 2], [1, 1]]}
    assert space.removals == {"channels": [0.0, 0.25, 0.5]}
    assert list(space.forms)[:3] == ["fp32", "fp16", "int8-static"]  # dynamic int8 takes no convolutions
    assert space.prune["train"] == {"epochs": 2, "learning_rate": 0.025, "warmup_steps": 0}


def test_students_that_begin_as_the_teacher_have_its_widths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_teacher(tmp_path, architecture="resnet", width=32, depths=[1, 2])
    distill = {"start": "teacher", "model": {"depths": [1, 1]}}
    students = {"half": {"recipe": "toy", "from": "toy", "passes": [{"distill": distill}]}}
    assert describe_space(params_of_toy(students=students), "toy", root).sizes == {"depths": [[1, 2], [1, 1]]}


def test_another_architecture_is_a_choice_beside_the_teachers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_teacher(tmp_path, architecture="cnn", width=32, depths=[1, 2])
    passes: list[Any] = [
        {"distill": {"model": {"architecture": "mobilenet_v1"}, "train": {"epochs": 3}}},
        {"prune": {"remove": {"channels": 0.3}}},
    ]
    quantize = {"method": "weight_only", "bits": 4, "block": 16}
    variants = {"toy-int4": {"recipe": "toy", "from": "light", "precision": "int4", "quantize": quantize}}
    students = {"light": {"recipe": "toy", "from": "toy", "passes": passes}}
    space = describe_space(params_of_toy(students=students, variants=variants), "toy", root)
    assert list(space.choices()["student"]) == ["", "architecture mobilenet_v1"]
    assert space.candidate({}).passes == []
    assert space.candidate({"student": 1}).passes == passes[:1]
    assert space.candidate({"model.width": 1}).passes[0]["distill"]["model"] == {"width": 24}
    assert space.candidate({"model.width": 1, "student": 1}).passes[0]["distill"] == {
        "model": {"architecture": "mobilenet_v1", "width": 24},
        "train": {"epochs": 3},
    }
    point = space.point(space.made["light"], Variant.model_validate(variants["toy-int4"]))
    assert space.candidate(point).start == "light"
    assert space.forms["int4-weights"]["quantize"] == quantize


def test_hand_written_students_give_their_sizes_and_how_they_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_teacher(tmp_path, architecture="resnet", width=32, depths=[1, 2])
    distill = {"logit": {"alpha": 0.9}, "model": {"width": 20, "depths": [1, 2], "label_smoothing": 0.1}}
    prune = {"remove": {"hidden": 0.3}, "criterion": "magnitude"}
    students = {
        "half": {"recipe": "toy", "from": "toy", "passes": [{"distill": distill}]},
        "small": {"recipe": "toy", "from": "half", "passes": [{"prune": prune}]},
    }
    variants = {
        "toy-int8": {"recipe": "toy", "from": "small", "precision": "int8", "tolerance": {"agreement": 0.1}},
    }
    space = describe_space(params_of_toy(students=students, variants=variants), "toy", root)
    assert space.sizes["width"] == [32, 24, 20, 16, 8]
    assert space.removals["hidden"] == [0.0, 0.25, 0.3, 0.5]
    assert space.students == {"label_smoothing 0.1": {"logit": {"alpha": 0.9}, "model": {"label_smoothing": 0.1}}}
    assert space.prune == {"criterion": "magnitude"}
    assert space.forms["int8"]["tolerance"] == {"agreement": 0.1}
    variant = Variant.model_validate(variants["toy-int8"])
    for name in ("half", "small"):  # the depths are the teacher's, which a point does not state
        assert space.candidate(space.point(space.made[name], variant)).start == name
