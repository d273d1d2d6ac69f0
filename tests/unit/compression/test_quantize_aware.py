"""Quantization-aware training: the int8 graph answers as the model that was trained to round, on every network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.compression.passes import parse_passes
from components.compression.prune import Prune
from components.compression.quantize_aware import QuantizeAware, weights_in_blocks
from components.core.errors import ConfigError
from components.core.files import sha256_tree
from components.core.params import Calibration, Quantize
from components.core.task import TrainedModel
from components.core.tolerance import tolerance_for
from components.export.block_rounding import rounded_in_blocks
from components.export.export import export_model
from components.export.fake_quant import Simulated, plain
from components.export.int8_forms import with_int8_forms
from components.export.learned_ranges import learned_ranges
from components.export.precision import build_graphs
from components.export.qdq import layers, quantize_qdq, range_tensors
from components.export.sensitivity import logits, run
from components.inference import load_predictor
from components.tasks.image_classification import TASK
from components.training.weights import load_model, save_model
from tests.conformance.test_tasks import prepared_photos
from tests.unit.compression.image_toy import ARCHITECTURES, Fitted, context, halves, lively, write_facts


def trained(root: Path, steps: int = 3, **changes: object) -> TrainedModel:
    model = lively(root, width=12, **changes)
    return QuantizeAware(batches=4).apply(model, context(root, model, Fitted(steps=steps)))


def answers(model: TrainedModel, images: np.ndarray) -> np.ndarray:
    """Return the logits of a torch model as it is, rounding or not."""
    with torch.inference_mode():
        return model.module.eval()(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_int8_graph_computes_what_the_model_did_and_needs_no_calibration(tmp_path: Path, architecture: str) -> None:
    model = trained(write_facts(tmp_path), steps=20, architecture=architecture)
    (graph,) = build_graphs(TASK, model, TASK.Options(), "fp32").values()
    formed = with_int8_forms(graph)
    assert isinstance(model.module, Simulated)
    ranges = model.module.fake_quant.as_dict()
    learned = learned_ranges(formed.graph, ranges)
    missing = set(range_tensors(formed.graph)) - set(learned)
    assert len(missing) == 2  # the picture, which is bytes already, and the logits, which stay floats
    assert set(learned.values()) == set(ranges.values())
    names = {layer.name for layer in layers(formed.graph)}
    quantized = quantize_qdq(formed, {**dict.fromkeys(missing, (0.0, 1.0)), **learned}, (), names)
    images = halves(64).images
    (got,) = run(quantized, logits(quantized.graph), [{"image": images}])
    expected, floats = answers(model, images), answers(TrainedModel(model.config, plain(model.module)), images)
    # what is left: biases and the first layer's padding, which the graph rounds and the model does not
    assert np.abs(got - expected).max() < 0.02
    assert np.abs(got - expected).mean() < 0.2 * np.abs(got - floats).mean()


def test_ranges_travel_with_the_model_and_its_copies(tmp_path: Path) -> None:
    model = trained(write_facts(tmp_path / "data"), architecture="resnet")
    images = halves(8).images
    (tmp_path / "model").mkdir()
    save_model(model, tmp_path / "model")
    again = load_model(TASK, tmp_path / "model", tmp_path / "data")
    assert isinstance(again.module, Simulated)
    assert np.array_equal(answers(again, images), answers(model, images))
    floats = plain(again.module)
    assert type(floats).__mro__[0] is type(plain(model.module))
    assert not isinstance(floats, Simulated)
    assert [name for name in floats.state_dict() if "fake" in name] == []
    assert not np.array_equal(answers(TrainedModel(again.config, floats), images), answers(again, images))
    assert floats is plain(floats)


def test_norms_keep_their_statistics_and_every_weight_is_trained(tmp_path: Path) -> None:
    root = write_facts(tmp_path)
    model = lively(root, architecture="mobilenet_v1")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    made = QuantizeAware(batches=1).apply(model, context(root, model, Fitted(steps=3)))
    for name, tensor in made.module.state_dict().items():
        if "running" in name:
            assert torch.equal(tensor, before[name])
        elif name in before and tensor.is_floating_point():
            assert not torch.equal(tensor, before[name])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour photos, prepared: the first layer's weights take over what each channel is divided by."""
    return prepared_photos(tmp_path_factory.mktemp("photos"))


def export(model: TrainedModel, root: Path, out: Path, quantize: Quantize | None, precision: str = "int8", **limits):  # type: ignore[no-untyped-def]
    out.mkdir()
    identity = {"recipe": "r", "variant": "v", "parent": "s", "precision": precision, "runtime": "cpu"}
    tolerance = tolerance_for(precision, limits, "t")
    dev, train = (TASK.dataset(root, split) for split in ("dev", "train"))
    return export_model(
        model=model,
        task=TASK,
        options=TASK.Options(),
        examples=dev,
        assets=root / "assets",
        tolerance=tolerance,
        identity=identity,
        out=out,
        quantize=quantize,
        train=train,
    )


def test_exported_variant_agrees_with_the_model_within_a_tight_tolerance_twice(photos: Path, tmp_path: Path) -> None:
    model = trained(photos, steps=0, architecture="mobilenet_v1")
    static = Quantize(method="static", calibration=Calibration(samples=32))
    limits = {"agreement": 0.98, "max_abs_diff": 0.01, "quality_drop": 0.0}
    manifest = export(model, photos, tmp_path / "one", static, **limits)
    quantization = manifest.quantization
    assert isinstance(model.module, Simulated)
    assert quantization["learned_ranges"] >= len(model.module.fake_quant.as_dict())
    assert [row["in_float"] for row in quantization["tried"]] == [0]
    certificate = quantization["certificates"]["x86-64-avx2"]
    assert certificate["proven_layers"] == certificate["layers"] > 0
    dev = TASK.dataset(photos, "dev")
    got = load_predictor(tmp_path / "one").predict(dev.inputs())
    images, _, _ = dev.collate([dev[i] for i in range(len(dev))])
    best = answers(model, images.numpy()).argmax(1)
    labels = (photos / "assets" / "labels.txt").read_text(encoding="utf-8").split("\n")
    assert np.mean([answer["label"] == labels[i] for answer, i in zip(got, best, strict=True)]) >= 0.98
    export(model, photos, tmp_path / "two", static, **limits)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")


def test_other_precisions_are_the_model_in_floats(photos: Path, tmp_path: Path) -> None:
    model = trained(photos, steps=2, architecture="cnn")
    manifest = export(model, photos, tmp_path / "fp32", None, "fp32")
    assert manifest.parity["max_abs_diff"] < 1e-4


@pytest.mark.parametrize("method", ["min_max", "percentile", "entropy"])
def test_ranges_are_found_by_each_method(tmp_path: Path, method: str) -> None:
    root = write_facts(tmp_path)
    model = lively(root, width=12, architecture="cnn")
    (step,) = parse_passes([{"quantize_aware": {"batches": 2, "method": method}}], "x")
    rounding = step.apply(model, context(root, model, Fitted(steps=1)))
    assert isinstance(rounding.module, Simulated)
    assert all(low < high for low, high in rounding.module.fake_quant.as_dict().values())
    if method != "percentile":
        with pytest.raises(ConfigError, match=f"percentile: is of method percentile, but method is {method}; leave it"):
            parse_passes([{"quantize_aware": {"method": method, "percentile": 99}}], "x")


def test_it_is_the_last_pass_and_leaves_no_trace_in_a_pruned_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="x: quantize_aware is the last pass"):
        parse_passes([{"quantize_aware": {}}, {"sparsify": {"fraction": 0.5}}], "x")
    root = write_facts(tmp_path)
    model = trained(root, architecture="cnn")
    pruned = Prune(remove={"channels": 0.5}, criterion="magnitude").apply(model, context(root, model, Fitted()))
    assert not isinstance(pruned.module, Simulated)
    assert pruned.parameters() < model.parameters()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 4, "batches": 2}, "batches: is of bits: 8, but bits is 4"),
        ({"bits": 4, "method": "min_max"}, "method: is of bits: 8, but bits is 4"),
        ({"block": 16}, "block: is of bits: 4, but bits is 8"),
        ({"bits": 4, "block": 33}, "block"),
        ({"bits": 2}, "bits"),
    ],
)
def test_options_of_other_bits_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_passes([{"quantize_aware": options}], "x")


def test_weights_of_four_bits_are_kept_rounded_in_norms_that_learn(tmp_path: Path) -> None:
    root = write_facts(tmp_path)
    model = lively(root, width=48, architecture="mobilenet_v1")
    made = QuantizeAware(bits=4, block=16).apply(model, context(root, model, Fitted(steps=3)))
    blocks = weights_in_blocks(made.module)
    assert blocks
    for name, divided in blocks.items():
        weight = made.module.get_parameter(name)
        assert torch.equal(rounded_in_blocks(weight, 4, 16, divided), weight)
        assert not torch.equal(model.module.get_parameter(name), weight)
        assert len(weight.detach().flatten(1)[0, :16].unique()) <= 16
    norms = [name for name in made.module.state_dict() if "running_mean" in name]
    assert not any(torch.equal(made.module.state_dict()[n], model.module.state_dict()[n]) for n in norms)
