"""What a search may try: students' sizes, what is pruned and how far, and the form a graph is exported in.

Nothing is declared for it. Sizes are the model options of which a smaller value makes fewer parameters; kinds of units
are those the teacher says can be removed; forms are those `variants` offers. How a student is trained, how the graph
answers and what it may lose are taken from the recipe's hand-written students and variants, where there are some.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.core.config import parse_config
from components.core.errors import ConfigError
from components.core.params import Params, Recipe, Variant

# A variant's form by the name a trial gives it; one that this version of `variants` refuses is not offered.
FORMS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "fp16": {"precision": "fp16"},
    "int8": {"precision": "int8"},
    "int8-static": {"precision": "int8", "quantize": {"method": "static"}},
    "int8-weights": {"precision": "int8", "quantize": {"method": "weight_only", "bits": 8}},
    "int4-weights": {"precision": "int4", "quantize": {"method": "weight_only", "bits": 4}},
}
# Static int8 leaves as few layers in float as hold this loss: each value is another mixture of precisions.
QUALITY_DROPS = (0.003, 0.01, 0.03)
FRACTIONS = (0.75, 0.5, 0.375, 0.25, 0.125)  # of the teacher's widths
REMOVALS = (0.0, 0.25, 0.5)
LOGIT = {"temperature": 2.0, "alpha": 0.5}
SHORT = 8  # a short training has this part of a training's epochs
FINE_TUNING = 4  # a pruned network is trained for a quarter of the teacher's epochs at a quarter of its rate

Passes = list[dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Candidate:
    """What one trial makes: passes applied to models/<start>, and the variant (but for its recipe and parent)."""

    start: str
    passes: Passes
    variant: dict[str, Any]

    @property
    def identity(self) -> str:
        """The same text for the same candidate."""
        return json.dumps(asdict(self), sort_keys=True)

    def __str__(self) -> str:
        steps = [_pass_in_words(name, block) for step in self.passes for name, block in step.items()]
        quantize = self.variant.get("quantize") or {}
        form = " ".join(filter(None, [self.variant["precision"], str(quantize.get("method", "")).replace("_", "-")]))
        if quantize.get("method") == "static":
            drop = self.variant.get("tolerance", {}).get("quality_drop")
            form += f", at most {drop:.1%} lost" if drop is not None else ""
        return "; ".join([*(steps or [self.start]), form])


def _pass_in_words(name: str, block: Mapping[str, Any]) -> str:
    if name == "distill":
        return " ".join(["distill", *(f"{key} {value}" for key, value in block["model"].items())])
    if name == "prune":
        return " ".join(["prune", *(f"{kind} {share:g}" for kind, share in block["remove"].items())])
    return name


@dataclass(frozen=True)
class Space:
    """Values by parameter, the teacher's own first; a point is the index of a value for each parameter.

    sizes: model options. removals: kinds of units and which share of them goes. forms: parts of a variant by name;
    drops: what static int8 may lose. students: how one is distilled, by what it has of its own beside sizes, each the
    pass's block without sizes; first the teacher's own kind of network, then others, such as another architecture.
    prune: the pass's block but for `remove`. made: the passes by which stages made the models of the hand-written
    variants from the teacher.
    """

    recipe: str
    sizes: Mapping[str, list[Any]]
    removals: Mapping[str, list[float]]
    forms: Mapping[str, dict[str, Any]]
    drops: list[float]
    students: Mapping[str, Mapping[str, Any]]
    prune: Mapping[str, Any]
    made: Mapping[str, Passes]

    def choices(self) -> dict[str, Sequence[Any]]:
        """Return the values of each parameter that has more than one."""
        every: dict[str, Sequence[Any]] = {
            "student": list(self.students),
            **{f"model.{key}": values for key, values in self.sizes.items()},
            **{f"remove.{kind}": values for kind, values in self.removals.items()},
            "form": list(self.forms),
        }
        if "int8-static" in self.forms:
            every["quality_drop"] = self.drops
        return {name: values for name, values in every.items() if len(values) > 1}

    def candidate(self, point: Mapping[str, int]) -> Candidate:
        """Return what a point stands for; several points may stand for the same."""
        sizes = {key: values[point.get(f"model.{key}", 0)] for key, values in self.sizes.items()}
        remove = {kind: values[point.get(f"remove.{kind}", 0)] for kind, values in self.removals.items()}
        form = list(self.forms)[point.get("form", 0)]
        variant = self.forms[form]
        if form == "int8-static":
            drop = self.drops[point.get("quality_drop", 0)]
            variant = {**variant, "tolerance": {**variant.get("tolerance", {}), "quality_drop": drop}}
        passes = []
        smaller = {key: size for key, size in sizes.items() if size != self.sizes[key][0]}
        kind = point.get("student", 0)
        student = list(self.students.values())[kind]
        if smaller or kind:
            passes.append({"distill": {**student, "model": {**student["model"], **smaller}}})
        if any(remove.values()):
            gone = {kind: share for kind, share in remove.items() if share}
            passes.append({"prune": {"remove": gone, **self.prune}})
        for model, chain in self.made.items():
            if chain == passes:  # nothing is trained twice
                return Candidate(model, [], variant)
        return Candidate(self.recipe, passes, variant)

    def neighbours(self, point: Mapping[str, int]) -> list[dict[str, int]]:
        """Return the points a step away: one size or share the next larger or smaller, or one other kind or form."""
        found: list[dict[str, int]] = []
        for name, values in self.choices().items():
            here = point[name]
            in_order = name not in ("student", "form")
            steps = [here - 1, here + 1] if in_order else [index for index in range(len(values)) if index != here]
            found.extend({**point, name: index} for index in steps if 0 <= index < len(values))
        return found

    def point(self, passes: Sequence[Mapping[str, Mapping[str, Any]]], variant: Variant) -> dict[str, int]:
        """Return the point nearest to a hand-written variant, by which the search learns from it."""
        found: dict[str, Any] = {}
        for step in passes:
            for name, block in step.items():
                if name == "distill":
                    found.update({f"model.{key}": value for key, value in block["model"].items()})
                    found["student"] = _own(block, self.sizes)
                elif name == "prune":
                    found.update({f"remove.{kind}": share for kind, share in block["remove"].items()})
        found["form"] = form_of(variant)
        found["quality_drop"] = variant.tolerance.get("quality_drop", self.drops[0])
        return {
            name: list(values).index(_plain(found[name])) if _plain(found.get(name)) in values else 0
            for name, values in self.choices().items()
        }


def form_of(variant: Variant) -> str:
    """Return the name of a variant's form."""
    wanted = (variant.precision, variant.quantize.method if variant.quantize else None)
    forms = {(part["precision"], part.get("quantize", {}).get("method")): name for name, part in FORMS.items()}
    return forms.get(wanted, forms.get((variant.precision, None), "fp32"))  # `method: dynamic` is int8 as it is


def describe_space(params: Params, name: str, prepared: Path) -> Space:
    """Return the space of a recipe whose teacher and prepared data are there. Imports torch."""
    from components.compression.distill import take_over
    from components.core.task import GraphSpec, load_task
    from components.training.weights import load_model

    recipe = params.recipes[name]
    task = load_task(recipe.task)
    teacher = load_model(task, Path("models") / name, prepared)
    written = [step for student in params.students.values() if student.recipe == name for step in student.passes]
    distills = [step["distill"] for step in written if "distill" in step]
    prunes = [step["prune"] for step in written if "prune" in step and step["prune"].get("criterion") != "threshold"]

    starts_as_teacher = bool(distills) and distills[0].get("start") == "teacher"

    def parameters(changes: Mapping[str, Any]) -> int:
        config = parse_config(task.Model, teacher.config.changed(changes), f"recipes.{name}.model")
        student = task.build_model(config, prepared)
        if starts_as_teacher:  # sizes of which nothing could be taken over are none of this template's
            take_over(teacher.module, student)
        return sum(parameter.numel() for parameter in student.parameters())

    sizes = size_options(teacher.config.model_dump(), parameters)
    for key, values in sizes.items():
        sizes[key] = _with(values, [_plain(block["model"][key]) for block in distills if key in block["model"]])
    groups = getattr(teacher.module, "pruning_groups", list)
    removals = {
        kind: sorted({*REMOVALS, *(block["remove"][kind] for block in prunes if kind in block["remove"])})
        for kind in sorted({group.kind for group in groups()})  # type: ignore[operator]
    }
    variants = list(params.variants_of(name).values())
    plain = parse_config(task.Options, variants[0].options, f"variants.{name}.options")
    has_loop = not all(isinstance(spec, GraphSpec) for spec in task.graphs(teacher.module, plain))
    forms = dict(_forms(variants, static=not has_loop))
    if _of_convolutions(teacher.module) and "int8" not in map(form_of, variants):
        forms.pop("int8", None)  # dynamic int8 takes none of them, so `export` refuses it
    drops = {drop for v in variants if form_of(v) == "int8-static" and (drop := v.tolerance.get("quality_drop"))}
    students: dict[str, Mapping[str, Any]] = {}
    for block in distills:
        rest = {key: value for key, value in block["model"].items() if key not in sizes}
        students.setdefault(_own(block, sizes), {**block, "model": rest})
    alike = [kind for kind, block in students.items() if parameters(block["model"]) == parameters({})]
    if not alike:
        alike, students[""] = [""], {"logit": LOGIT, "model": {}}
    students = {kind: students[kind] for kind in [*alike, *students]}
    made = {model: chain for variant in variants for model, chain in _chains(params, variant.parent, sizes).items()}
    return Space(
        recipe=name,
        sizes=sizes,
        removals=removals,
        forms=forms,
        drops=sorted({*QUALITY_DROPS, *drops}),
        students=students,
        prune={k: v for k, v in (prunes[0] if prunes else _fine_tuned(recipe)).items() if k != "remove"},
        made=made,
    )


def _own(block: Mapping[str, Any], sizes: Mapping[str, Any]) -> str:
    """Return what a distilled student has of its own beside sizes, in words."""
    return ", ".join(f"{key} {value}" for key, value in block["model"].items() if key not in sizes)


def _chains(params: Params, model: str, sizes: Mapping[str, list[Any]]) -> dict[str, Passes]:
    """Return the passes that make a model, and each on the way to it, from its recipe's teacher.

    They are stated as a point states them: without the sizes that are the teacher's.
    """
    if model not in params.students:
        return {model: []}
    student = params.students[model]
    passes = [{name: _without_unchanged(block, sizes) for name, block in step.items()} for step in student.passes]
    before = _chains(params, student.parent, sizes)
    return {**before, model: [*before[student.parent], *passes]}


def _without_unchanged(block: Mapping[str, Any], sizes: Mapping[str, list[Any]]) -> dict[str, Any]:
    if "model" not in block:
        return dict(block)
    changed = {key: value for key, value in block["model"].items() if key not in sizes or value != sizes[key][0]}
    return {**block, "model": changed}


def size_options(model: Mapping[str, Any], parameters: Any) -> dict[str, list[Any]]:
    """Return {option: its value, then smaller ones} for each option of which a smaller value makes fewer parameters.

    model: all options of the teacher. parameters: how many the network has with some options changed; raises
    ConfigError where the task refuses them.
    """
    whole, found = parameters({}), {}
    for key, value in model.items():
        smaller = smaller_values(_plain(value))
        try:
            if smaller and parameters({key: smaller[-1]}) < whole:
                found[key] = [_plain(value), *smaller]
        except ConfigError:  # the task knows no smaller value
            continue
    return found


def smaller_values(value: Any) -> list[Any]:
    """Return smaller widths (in steps of 8) or counts, largest first; of a list, one number for each of its own."""
    if isinstance(value, list) and value and all(isinstance(number, int) for number in value):
        if max(value) < 16:  # layers of each stage
            fewer = [[max(n - step, min(n, 1)) for n in value] for step in range(1, max(value))]
        else:
            fewer = [[_width(n * share) for n in value] for share in FRACTIONS]
        return [numbers for i, numbers in enumerate(fewer) if numbers != value and numbers not in fewer[:i]]
    if not isinstance(value, int) or isinstance(value, bool) or value < 2:
        return []
    if value < 16:
        numbers = set(range(1, value)) if value <= 4 else {max(1, round(value * share)) for share in FRACTIONS}
    else:
        numbers = {_width(value * share) for share in FRACTIONS}
    return sorted((number for number in numbers if number < value), reverse=True)


def _with(values: list[Any], more: Sequence[Any]) -> list[Any]:
    """Return the values with those of hand-written students, smaller ones further back; the first stays the first."""
    new = [value for i, value in enumerate(more) if value not in values and value not in more[:i]]
    return [values[0], *sorted([*values[1:], *new], key=_magnitude, reverse=True)]


def _width(number: float) -> int:
    return max(8, 8 * round(number / 8))


def _magnitude(value: Any) -> int:
    return sum(value) if isinstance(value, list) else int(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _of_convolutions(module: Any) -> bool:
    """Return whether convolutions hold all but the share of a module's weights that dynamic int8 has to have."""
    from torch import nn

    from components.export.int8 import LEAST

    kinds = nn.Conv1d | nn.Conv2d
    held = sum(part.weight.numel() for part in module.modules() if isinstance(part, kinds))
    return bool(held > (1 - LEAST) * sum(parameter.numel() for parameter in module.parameters()))


def _forms(variants: Sequence[Variant], static: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each form with the hand-written variants' options and, where one has the form, its tolerance."""
    shared = {"runtime": "cpu", "options": variants[0].options}
    for name, form in FORMS.items():
        if name == "int8-static" and not static:  # calibration reaches into no loop
            continue
        alike = [variant for variant in variants if form_of(variant) == name]
        part = {**form, **shared, **(variant_part(alike[0]) if alike else {})}
        try:
            variant = parse_config(Variant, {"recipe": "x", "from": "x", **part}, "variants")
        except ConfigError:
            continue
        yield name, variant_part(variant)


def variant_part(variant: Variant) -> dict[str, Any]:
    """Return a variant as params.yaml states it, without recipe, parent and what is the default."""
    return variant.model_dump(exclude_defaults=True, exclude={"recipe", "parent"}, mode="json")


def _fine_tuned(recipe: Recipe) -> dict[str, Any]:
    train = recipe.train
    return {
        "logit": LOGIT,
        "train": {
            "epochs": math.ceil(train["epochs"] / FINE_TUNING),
            "learning_rate": train["learning_rate"] / FINE_TUNING,
            "warmup_steps": train.get("warmup_steps", 0) // FINE_TUNING,
        },
    }
