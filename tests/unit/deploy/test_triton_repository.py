"""Model repositories hold what Triton's own schema (model_config.proto, as tritonclient ships it) says they may."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format

from components.core.bundle import GraphInfo, TensorInfo
from components.core.errors import ModelpressError
from components.core.files import read_json
from deploy.triton.config import DTYPES, Serving, config_text, is_batched
from deploy.triton.repository import export_triton
from tests.unit.deploy.small_bundle import make_bundle


def schema() -> Any:
    """Return tritonclient's model_config_pb2, without the grpc package its folder imports."""
    (folder,) = importlib.util.find_spec("tritonclient").submodule_search_locations  # type: ignore[union-attr, misc]
    spec = importlib.util.spec_from_file_location("model_config_pb2", Path(folder, "grpc", "model_config_pb2.py"))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


SCHEMA = schema()


def parsed(text: str) -> Any:
    return text_format.Parse(text, SCHEMA.ModelConfig())


def graph(inputs: dict[str, tuple[Any, ...]], outputs: dict[str, tuple[Any, ...]], dtype: str = "float") -> GraphInfo:
    sides = [tuple(TensorInfo(n, dtype, shape) for n, shape in side.items()) for side in (inputs, outputs)]
    return GraphInfo("g.onnx", *sides, 20)


def test_repository_has_config_versions_and_a_warm_up_that_runs(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (version,) = export_triton(bundle.root, tmp_path / "models")
    model = tmp_path / "models" / "toy-fp32"
    assert version == model / "1"
    assert {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()} == {
        "config.pbtxt", "1/model.onnx", "1/manifest.json", "warmup/source"
    }  # fmt: skip
    config = parsed((model / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("toy-fp32", "onnxruntime", 32)
    assert (version / config.default_model_filename).is_file()
    ((warm_up,), (source,)) = config.model_warmup, config.input
    given = warm_up.inputs["source"]
    assert given.data_type == source.data_type == SCHEMA.TYPE_INT64
    data = np.fromfile(model / "warmup" / given.input_data_file, np.int64).reshape(1, *given.dims)
    session = onnxruntime.InferenceSession(str(version / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {"source": data})[0].tolist() == [[4, 5, 3]]  # good morning </s>


def test_names_and_types_are_those_of_the_graph_itself(tmp_path: Path) -> None:
    (version,) = export_triton(make_bundle(tmp_path / "bundle").root, tmp_path / "models")
    config = parsed((version.parent / "config.pbtxt").read_text())
    session = onnxruntime.InferenceSession(str(version / "model.onnx"), providers=["CPUExecutionProvider"])
    for said, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [tensor.name for tensor in said] == [tensor.name for tensor in real]
        assert [len(tensor.dims) + 1 for tensor in said] == [len(tensor.shape) for tensor in real]


def test_next_bundle_becomes_the_next_version_and_a_taken_one_is_refused(tmp_path: Path) -> None:
    root, models = make_bundle(tmp_path / "bundle").root, tmp_path / "models"
    assert [export_triton(root, models)[0].name for _ in range(2)] == ["1", "2"]
    assert export_triton(root, models, version=7)[0].name == "7"
    with pytest.raises(ModelpressError, match="version 2 is there already"):
        export_triton(root, models, version=2)
    assert read_json(models / "toy-fp32" / "2" / "manifest.json")["variant"] == "toy-fp32"


def test_bundle_with_other_shapes_is_no_version_of_the_same_model(tmp_path: Path) -> None:
    export_triton(make_bundle(tmp_path / "bundle").root, tmp_path / "models")
    other = make_bundle(tmp_path / "other", shape=("batch", 3)).root
    with pytest.raises(ModelpressError, match="inputs or outputs differ"):
        export_triton(other, tmp_path / "models")
    assert not (tmp_path / "models" / "toy-fp32" / "2").exists()


@pytest.mark.parametrize(("precision", "gpu", "kind"), [
    ("fp16", None, "KIND_GPU"), ("fp32", None, "KIND_CPU"), ("fp16", False, "KIND_CPU"), ("int8", True, "KIND_GPU"),
])  # fmt: skip
def test_fp16_runs_on_the_gpu_unless_told_otherwise(
    tmp_path: Path, precision: str, gpu: bool | None, kind: str
) -> None:
    (version,) = export_triton(make_bundle(tmp_path / "bundle", precision).root, tmp_path / "models", gpu=gpu)
    (group,) = parsed((version.parent / "config.pbtxt").read_text()).instance_group
    assert SCHEMA.ModelInstanceGroup.Kind.Name(group.kind) == kind


@pytest.mark.parametrize(
    ("inputs", "outputs", "batched"),
    [
        ({"x": ("batch", 3)}, {"y": ("batch",)}, True),
        ({"x": ("batch", 3), "n": ("batch",)}, {"y": ("batch", "t")}, True),
        ({"x": (1, 3)}, {"y": (1, 3)}, False),
        ({"x": ("batch", 3), "speed": ()}, {"y": ("batch", 3)}, False),
        ({"x": ("batch", 3), "table": ("rows", 3)}, {"y": ("batch", 3)}, False),
        ({"x": ("batch", 3)}, {"y": ("length", 3)}, False),
    ],
)
def test_requests_are_put_together_only_where_all_first_axes_are_the_same_free_one(
    inputs: dict[str, Any], outputs: dict[str, Any], batched: bool
) -> None:
    info = graph(inputs, outputs)
    config = parsed(config_text("m", info, False, Serving(max_batch=8), {}))
    assert is_batched(info) is batched
    assert config.max_batch_size == (8 if batched else 0)
    assert config.HasField("dynamic_batching") is batched
    for tensor, (name, shape) in zip(config.input, inputs.items(), strict=True):
        sizes = [size if isinstance(size, int) else -1 for size in shape[batched:]]
        assert (tensor.name, list(tensor.dims)) == (name, sizes or [1])
        assert tensor.HasField("reshape") is (not sizes)  # Triton has no tensor without axes
        assert list(tensor.reshape.shape) == []


def test_every_dtype_is_one_of_tritons() -> None:
    assert set(DTYPES.values()) <= set(SCHEMA.DataType.keys())
    with pytest.raises(ModelpressError, match="'complex64' has no place"):
        config_text("m", graph({"x": (1,)}, {"y": (1,)}, "complex64"), False, Serving(), {})


def test_names_are_quoted() -> None:
    name = 'a"b\\c\u00e9'
    config = parsed(config_text("m", graph({name: ("batch",)}, {"y": ("batch",)}), True, Serving(), {}))
    assert config.input[0].name == name
