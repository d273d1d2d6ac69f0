"""params.yaml as typed, frozen values: every mistake is reported at once, with the key it is at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from components.core.config import Config, parse_config
from components.core.errors import ConfigError, ModelpressError, did_you_mean
from components.core.source import Source


class About(Config):
    """What a model card must say of its training data."""

    license: str
    languages: list[str] = []
    credit: str = ""
    limits: list[str] = []


class Dataset(Config):
    """Raw files from a pinned source, and how they are split; `split` is checked by its reader."""

    about: About | None = None
    source: Source
    split: dict[str, Any]


LIMITS = ("max_size_mb", "max_p50_ms", "min_quality")  # of a budget


class Budget(Config):
    """Limits a variant must meet to be chosen: megabytes, milliseconds at batch 1, share of the teacher's metric.

    gain: what it must be beside what it was made from, the float form of its model; for a student's, the teacher's.
    """

    max_size_mb: float = Field(gt=0)
    max_p50_ms: float = Field(gt=0)
    min_quality: float = Field(ge=0, le=2)
    gain: Literal["either", "smaller", "faster"] = "either"


class Recipe(Config):
    """A task with its data, model and training parameters: one trained teacher. Also the MLflow experiment's name."""

    task: str
    dataset: str
    data: dict[str, Any]  # may be empty, but dvc.yaml tracks it
    model: dict[str, Any]
    train: dict[str, Any]
    budget: Budget


class Student(Config):
    """A model made from a recipe's teacher, or from another student, by one or more passes."""

    recipe: str
    parent: str = Field(alias="from")
    passes: list[dict[str, dict[str, Any]]] = Field(min_length=1)


def unread_percentile(method: str) -> dict[str, str]:
    """Return what `idle` says of the option `percentile` beside a method of finding ranges."""
    reason = f"is of method percentile, but method is {method}"
    return {} if method == "percentile" else {"percentile": reason}


class Calibration(Config):
    """How static int8 learns which values activations take: on examples of train, never of dev or test."""

    samples: int = Field(default=512, gt=0)
    method: Literal["min_max", "percentile", "entropy"] = "percentile"
    percentile: float = Field(default=99.99, gt=50, le=100)
    seed: int = 1

    def idle(self) -> Mapping[str, str]:
        return unread_percentile(self.method)


_METHODS = {  # which of them each option of `quantize` belongs to
    "calibration": ("static",),
    "bits": ("weight_only",),
    "block": ("weight_only",),
    "activations": ("weight_only",),
}


class Quantize(Config):
    """How an int8 variant is made; without the block it is dynamic.

    dynamic: products in int8, activations scaled as they come. static: whole layers in int8, scales from calibration;
    the layers that cost most stay in float, as few as the tolerance asks for. weight_only: weights in 8 or 4 bits, a
    scale for each block of an output's inputs; activations stay in float, or products take them in 8 bits.
    targets: processors the graph must compute exactly on; each gets a certificate in the manifest.
    """

    method: Literal["dynamic", "static", "weight_only"] = "dynamic"
    calibration: Calibration = Calibration()
    bits: Literal[8, 4] = 8
    block: Literal[16, 32, 64, 128, 256] = 32
    activations: Literal["float", "int8"] = "float"
    targets: tuple[Literal["x86-64-vnni", "x86-64-avx2"], ...] = Field(
        default=("x86-64-vnni", "x86-64-avx2"), min_length=1
    )

    @model_validator(mode="after")
    def _belongs_to_the_method(self) -> Self:
        for key in sorted(self.model_fields_set & _METHODS.keys()):
            if self.method not in _METHODS[key]:
                raise ValueError(
                    f"{key}: is of method {' and '.join(_METHODS[key])}, but method is {self.method}; leave it out"
                )
        bytes_by_bytes = self.method == "weight_only" and (self.bits, self.activations) == (8, "int8")
        if bytes_by_bytes and "x86-64-avx2" in self.targets:
            # its products of unsigned 8-bit weights by 8-bit activations, two added in 16 bits, may be 64,770
            raise ValueError(
                "8-bit weights by 8-bit activations are not known to be exact on x86-64-avx2; "
                "give targets: [x86-64-vnni], bits: 4 or activations: float"
            )
        return self


class Variant(Config):
    """A model exported at a precision for a runtime: one bundle. `options` and `tolerance` belong to the task."""

    recipe: str
    parent: str = Field(alias="from")
    precision: Literal["fp32", "fp16", "int8", "int4"]
    runtime: Literal["cpu", "gpu"] = "cpu"
    options: dict[str, Any] = {}
    tolerance: dict[str, float] = {}
    quantize: Quantize | None = None

    @model_validator(mode="after")
    def _quantizes_int8(self) -> Self:
        if self.quantize is not None and not self.precision.startswith("int"):
            raise ValueError(f"quantize: says how int8 is made, but precision is {self.precision}; leave one out")
        bits = self.quantize.bits if self.quantize else 8
        if self.precision.startswith("int") and self.precision != f"int{bits}":
            hint = "" if bits == 4 else "; int4 is quantize: {method: weight_only, bits: 4}"
            raise ValueError(f"precision: {self.precision}, but weights are made in {bits} bits{hint}")
        return self


class Stages(Config):
    """How the flow treats stages: attempts after a failure, seconds between them, and limits by stage.

    timeout_s: seconds a stage may take, by its name in dvc.yaml (`train`) or with its key (`train@x`).
    """

    retries: int = Field(default=0, ge=0)
    retry_delay_s: float = Field(default=1.0, ge=0)
    timeout_s: dict[str, Annotated[float, Field(gt=0)]] = {}


class Params(Config):
    """The whole of params.yaml."""

    default: list[str] = []
    datasets: dict[str, Dataset] = {}
    recipes: dict[str, Recipe] = {}
    students: dict[str, Student] = {}
    variants: dict[str, Variant] = {}
    stages: Stages = Stages()

    def variants_of(self, recipe: str) -> dict[str, Variant]:
        """Return the recipe's variants in the order of params.yaml."""
        return {name: variant for name, variant in self.variants.items() if variant.recipe == recipe}


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        ConfigError: all problems at once, one line each, e.g. `recipes.x.trian: unknown key, did you mean train?`.
    """
    return parse_params(read_params(path), path)


def read_params(path: Path) -> str:
    """Return the text of params.yaml.

    Raises:
        ModelpressError: no such file, or not a text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelpressError(f"{path}: no such file; run modelpress in the folder that holds it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelpressError(f"{path}: not a text file: {error}") from None


def parse_params(text: str, path: Path) -> Params:
    """Check the text of params.yaml; `path` is where it came from, for messages.

    Raises:
        ConfigError: all problems at once.
    """
    try:
        raw = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ModelpressError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except (TypeError, ValueError) as error:  # a list as a key, a date that no calendar has
        raise ModelpressError(f"{path}: a key or value that YAML knows and params.yaml can't hold: {error}") from None
    if not isinstance(raw, dict):
        raise ModelpressError(f"{path}: expected a mapping with datasets, recipes, students and variants")
    params = parse_config(Params, raw, "")
    problems = _dangling_references(params)
    if problems:
        raise ConfigError(f"{path}: {problem}" for problem in problems)
    return params


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice in one block, of which the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _dangling_references(params: Params) -> list[str]:
    problems = []
    models = {**params.recipes, **params.students}

    def check(where: str, name: str, known: Any) -> None:
        if name not in known:
            problems.append(f"{where}: no such name {name!r}{did_you_mean(name, known)}")

    for index, name in enumerate(params.default):
        check(f"default.{index}", name, params.recipes)
    for name, recipe in params.recipes.items():
        check(f"recipes.{name}.dataset", recipe.dataset, params.datasets)
        if not params.variants_of(name):
            problems.append(f"recipes.{name}: no variant exports it; add one under variants")
    for kind, derived in (("students", params.students), ("variants", params.variants)):
        for name, item in derived.items():
            check(f"{kind}.{name}.recipe", item.recipe, params.recipes)
            check(f"{kind}.{name}.from", item.parent, models)
            parent = params.students.get(item.parent)
            if parent and parent.recipe != item.recipe:
                problems.append(
                    f"{kind}.{name}.from: {item.parent} belongs to recipe {parent.recipe}, not {item.recipe}"
                )
            if item.parent in params.recipes and item.parent != item.recipe:
                problems.append(f"{kind}.{name}.from: recipe {item.parent} is not its own recipe {item.recipe}")
    for name in params.students:
        if name in params.recipes:
            problems.append(f"students.{name}: a recipe has the same name; both would write models/{name}")
        if _descends_from_itself(name, params.students):
            problems.append(f"students.{name}.from: it descends from itself; start one of them from the recipe")
    for kind in ("datasets", "recipes", "students", "variants"):
        problems += [
            f"{kind}.{name}: a name becomes folders and DVC keys; use letters, digits, - and _ only"
            for name in getattr(params, kind)
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name)
        ]
    return problems


def _descends_from_itself(name: str, students: Mapping[str, Student]) -> bool:
    seen, at = set(), name
    while at in students and at not in seen:
        seen.add(at)
        at = students[at].parent
    return at == name
