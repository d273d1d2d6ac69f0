"""params.yaml: every mistake at once, each with its key and a way out."""

import copy
from pathlib import Path

import pytest
import yaml

from components.core.config import parse_config
from components.core.errors import ConfigError, ModelpressError
from components.core.params import Params, load_params
from tests.workspace import REPOSITORY, tiny_params

DIGESTS = {f"{split}.{side}": "0" * 64 for split in ("train", "dev", "test") for side in ("en", "ja")}


def write(tmp_path: Path, values: object) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_shipped_params_parse() -> None:
    params = load_params(REPOSITORY / "params.yaml")
    assert set(params.default) <= set(params.recipes)


def test_all_mistakes_are_reported_at_once_with_suggestions(tmp_path: Path) -> None:
    values = tiny_params(DIGESTS)
    values["recipes"]["tiny"]["trian"] = {}
    values["recipes"]["tiny"]["budget"]["max_p50"] = 1
    values["variants"]["tiny-int8"]["precision"] = "int9"
    del values["datasets"]["tiny-pairs"]["source"]["url"]
    with pytest.raises(ConfigError) as error:
        load_params(write(tmp_path, values))
    text = str(error.value)
    assert "recipes.tiny.trian: unknown key, did you mean train?" in text
    assert "recipes.tiny.budget.max_p50: unknown key, did you mean max_p50_ms?" in text
    assert "variants.tiny-int8.precision" in text
    assert "'int9'" in text
    assert "datasets.tiny-pairs.source.url: missing" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda v: v["recipes"]["tiny"].update(dataset="tiny-pair"), "recipes.tiny.dataset: no such name 'tiny-pair'"),
        (lambda v: v["variants"]["tiny-int8"].update({"from": "tinny"}), "did you mean tiny?"),
        (lambda v: v["students"].update({"tiny": v["students"]["tiny-student"]}), "both would write models/tiny"),
        (lambda v: v.update(default=["nope"]), "default.0: no such name 'nope'"),
        (lambda v: v.update(variants={}), "recipes.tiny: no variant exports it"),
        (lambda v: v["students"]["tiny-student"].update({"from": "tiny-student"}), "it descends from itself"),
        (lambda v: v["variants"].update({"../x": v["variants"]["tiny-int8"]}), "variants.../x: a name becomes folders"),
    ],
)
def test_dangling_reference_is_named(tmp_path: Path, change, expected: str) -> None:  # type: ignore[no-untyped-def]
    values = copy.deepcopy(tiny_params(DIGESTS))
    change(values)
    with pytest.raises(ConfigError, match=r"params\.yaml: ") as error:
        load_params(write(tmp_path, values))
    assert expected in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2", "just words", "\x00"])
def test_what_is_no_mapping_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ModelpressError) as error:
        load_params(path)
    assert len(str(error.value).splitlines()) == 1


def test_key_written_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("recipes: {}\ndefault: []\nrecipes: {}\n")
    with pytest.raises(ModelpressError, match=r"'recipes' stands twice.*line 3"):
        load_params(path)


def test_unknown_key_of_a_source_is_told_the_keys_of_its_kind(tmp_path: Path) -> None:
    values = tiny_params(DIGESTS)
    source = values["datasets"]["tiny-pairs"]["source"]
    source["ulr"] = source.pop("url")
    with pytest.raises(ConfigError) as error:
        load_params(write(tmp_path, values))
    assert "datasets.tiny-pairs.source.ulr: unknown key, did you mean url?" in str(error.value)


def test_missing_file_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelpressError, match="run modelpress in the folder that holds it"):
        load_params(tmp_path / "params.yaml")


def test_parsed_values_are_frozen() -> None:
    params = parse_config(Params, tiny_params(DIGESTS), "")
    with pytest.raises(Exception, match="frozen"):
        params.recipes["tiny"].task = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("precision", "block", "expected"),
    [
        ("int8", {"method": "weight_only", "bits": 4}, "precision: int8, but weights are made in 4 bits"),
        ("int4", {"method": "static"}, "int4 is quantize: {method: weight_only, bits: 4}"),
        ("int4", None, "int4 is quantize: {method: weight_only, bits: 4}"),
        ("fp16", {"method": "weight_only"}, "precision is fp16; leave one out"),
        ("int8", {"method": "static", "block": 64}, "block: is of method weight_only, but method is static"),
        ("int8", {"method": "weight_only", "block": 33}, "variants.tiny-int8.quantize.block"),
        ("int8", {"method": "weight_only", "calibration": {}}, "calibration: is of method static, but"),
        ("int8", {"method": "static", "targets": []}, "quantize.targets"),
        (
            "int8",
            {"method": "static", "calibration": {"method": "min_max", "percentile": 99}},
            "percentile: is of method percentile, but method is min_max",
        ),
        ("int8", {"method": "weight_only", "activations": "int8"}, "not known to be exact on x86-64-avx2"),
    ],
)
def test_quantize_block_that_contradicts_itself_is_refused(
    tmp_path: Path, precision: str, block: object, expected: str
) -> None:
    values = copy.deepcopy(tiny_params(DIGESTS))
    values["variants"]["tiny-int8"] |= {"precision": precision, "quantize": block}
    with pytest.raises(ConfigError, match=r"variants\.tiny-int8") as error:
        load_params(write(tmp_path, values))
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("precision", "block"),
    [
        ("int4", {"method": "weight_only", "bits": 4, "block": 64, "activations": "int8"}),
        ("int8", {"method": "weight_only", "activations": "int8", "targets": ["x86-64-vnni"]}),
        ("int8", {"method": "weight_only"}),
    ],
)
def test_weight_only_is_taken_at_either_precision(tmp_path: Path, precision: str, block: object) -> None:
    values = copy.deepcopy(tiny_params(DIGESTS))
    values["variants"]["tiny-int8"] |= {"precision": precision, "quantize": block}
    quantize = load_params(write(tmp_path, values)).variants["tiny-int8"].quantize
    assert quantize is not None
    assert quantize.method == "weight_only"
