from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from components.core.config import parse_config
from components.core.errors import ConfigError
from components.core.files import write_json, write_text
from components.core.task import TrainedModel
from components.export.precision import build_graphs
from components.models.cnn import PlainCnn
from components.models.densenet import DenseNet
from components.models.image_layers import (
    ConvNorm,
    ImageClassifier,
    SkippingConv,
    Trunk,
    stage_strides,
    stage_widths,
)
from components.models.mobilenet import InvertedResidual, MobileNetV1, MobileNetV2, Separable
from components.models.multiply_adds import multiply_adds
from components.models.resnet import BasicBlock, ResNet
from components.tasks.image_classification import TASK, ModelConfig

ARCHITECTURES = ("cnn", "resnet", "mobilenet_v1", "mobilenet_v2", "densenet")


def pictures(count: int = 2, height: int = 8, width: int = 8, channels: int = 3) -> Tensor:
    shape = (count, height, width, channels)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Prepared data of 12 x 10 colour pictures in three classes, as far as a model looks at it."""
    folder = tmp_path_factory.mktemp("pictures")
    write_text(folder / "assets" / "labels.txt", "a\nb\nc\n")
    write_json(folder / "assets" / "picture.json", {"height": 12, "width": 10, "channels": 3})
    write_json(folder / "images.json", {"mean": [100.0, 110.0, 120.0], "deviation": [50.0, 40.0, 30.0]})
    return folder


def build(root, **changes) -> TrainedModel:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    dense = {"growth": 4} if changes.get("architecture") == "densenet" else {}
    config = parse_config(ModelConfig, {"width": 8, "depths": [1, 2], **dense, **changes}, "model")
    return TrainedModel(config, TASK.build_model(config, root))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [1, 1, 1, 1, 1]}, "depths: 4 halvings are too many for pictures of 10 x 12"),
        ({"augment": {"flip": "dihedral"}}, "augment.flip: dihedral needs square pictures, these are 10 x 12"),
        ({"augment": {"shift": 10}}, "augment.shift: 10 is out of pictures of 10 x 12"),
        ({"augment": {"cutout": 10}}, "augment.cutout: 10 is out of pictures of 10 x 12"),
    ],
)
def test_a_layout_that_the_pictures_do_not_bear_is_refused(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        build(root, architecture="densenet", **changes)


# ---- layers ----


def test_classifier_normalizes_bytes_before_its_trunk() -> None:
    class Mean(Trunk):
        outputs = 3

        def forward(self, x: Tensor) -> Tensor:
            return x

    images = pictures(channels=3)
    model = ImageClassifier(Mean(), 5, [10.0, 20.0, 30.0], [2.0, 4.0, 8.0])
    expected = (images.double().mean((1, 2)) - torch.tensor([10, 20, 30])) / torch.tensor([2, 4, 8])
    torch.testing.assert_close(model.features(images), expected.float())
    assert model(images).shape == (2, 5)
    assert not {"mean", "scale"} & set(model.state_dict())


def test_convolution_keeps_the_size_divided_by_its_stride() -> None:
    x = torch.randn(2, 4, 7, 9)
    for kernel in (1, 3):
        assert ConvNorm(4, 6, kernel)(x).shape == (2, 6, 7, 9)
        assert ConvNorm(4, 6, kernel, stride=2)(x).shape == (2, 6, 4, 5)
    assert ConvNorm(4, 6)(x).min() == 0
    assert ConvNorm(4, 6, relu=False)(x).min() < 0


def test_stages_double_the_channels_and_halve_the_picture_at_their_start() -> None:
    assert stage_widths(8, (2, 1, 3)) == [8, 8, 16, 32, 32, 32]
    assert stage_strides((2, 1, 3)) == [1, 1, 2, 2, 1, 1]


def weights(*convolutions: tuple[int, int, int]) -> int:
    """Return the weights of convolutions given as (inputs of one output, outputs, kernel), with their norms'."""
    return sum(inputs * outputs * kernel**2 + 2 * outputs for inputs, outputs, kernel in convolutions)


@pytest.mark.parametrize(
    ("block", "convolutions"),
    [
        (Separable(8, 12, 1), [(1, 8, 3), (8, 12, 1)]),
        (InvertedResidual(8, 24, 12, 2), [(8, 24, 1), (1, 24, 3), (24, 12, 1)]),
        (BasicBlock(8, 6, 8, 1), [(8, 6, 3), (6, 8, 3)]),
        (BasicBlock(8, 6, 12, 2), [(8, 6, 3), (6, 12, 3), (8, 12, 1)]),
    ],
)
def test_block_has_the_convolutions_of_its_paper(block: nn.Module, convolutions: list[tuple[int, int, int]]) -> None:
    assert sum(p.numel() for p in block.parameters()) == weights(*convolutions)


@pytest.mark.parametrize("block", [InvertedResidual(8, 16, 8, 1), BasicBlock(8, 8, 8, 1)])
def test_residual_block_passes_its_input_on_when_its_last_norm_is_zero(block: nn.Module) -> None:
    last = block.project if isinstance(block, InvertedResidual) else block.second
    nn.init.zeros_(last.norm.weight)
    x = torch.rand(2, 8, 5, 5)
    torch.testing.assert_close(block(x.clone()), x)


def test_dense_layers_see_and_keep_all_features_before_them() -> None:
    net = DenseNet(3, 8, (2, 1), [4, 5, 6], [10, 11, 12], [8], stem_stride=1)
    assert [layer.bottleneck.conv.in_channels for layer in net.layers] == [8, 12, 8]
    assert (net.transitions[0].conv.in_channels, net.transitions[0].conv.out_channels) == (8 + 4 + 5, 8)
    assert net.outputs == 8 + 6
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(net.layers[0](x)[:, :8], x)


@pytest.mark.parametrize(
    "trunk",
    [
        PlainCnn(3, [4, 6, 7], [1, 2], 1),
        ResNet(3, [4, 6, 7], [5, 3], [1, 2], 1),
        MobileNetV1(3, [4, 6, 7], [1, 2], 1),
        MobileNetV2(3, [4, 6, 7], [5, 3], [1, 2], 9, 1),
        DenseNet(3, 4, (1, 1), [3, 5], [2, 6], [3], 1),
    ],
)
def test_trunk_takes_other_channels_in_every_layer(trunk: Trunk) -> None:
    y = trunk(torch.randn(2, 3, 8, 8))
    assert y.shape == (2, trunk.outputs, 4, 4)


# ---- cost ----


def test_multiply_adds_are_those_of_the_formula() -> None:
    trunk = PlainCnn(3, [4, 6], [1], 2)
    model = ImageClassifier(trunk, 5, [0.0] * 3, [1.0] * 3).eval()
    assert multiply_adds(model, pictures(1, 8, 8)) == 4 * 4 * 9 * (3 * 4 + 4 * 6) + 6 * 5


def test_separable_network_takes_a_fraction_of_the_full_ones_work(root) -> None:  # type: ignore[no-untyped-def]
    full, separable = (
        multiply_adds(build(root, architecture=name, width=32).module.eval(), pictures(1, 12, 10))
        for name in ("cnn", "mobilenet_v1")
    )
    assert separable < full / 4


# ---- configs ----


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_explicit_config_builds_the_same_model(root, architecture: str) -> None:  # type: ignore[no-untyped-def]
    model = build(root, architecture=architecture)
    explicit = model.config.explicit()
    torch.manual_seed(0)
    again = TASK.build_model(explicit, root)
    assert explicit.explicit() == explicit
    assert again.state_dict().keys() == model.module.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.module.parameters(), strict=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_layer_may_have_its_own_number_of_channels(root, architecture: str) -> None:  # type: ignore[no-untyped-def]
    explicit = build(root, architecture=architecture).config.explicit()
    odd = {key: [count - 1 for count in getattr(explicit, key)] for key in ("channels", "hidden")}
    assert build(root, architecture=architecture, **odd).module.eval()(pictures(2, 12, 10)).shape == (2, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depths": [2, 0]}, "at least one layer a stage"),
        ({"depths": [0]}, "at least one layer a stage"),
        ({"channels": [4, 4]}, "channels: 4 numbers above zero are needed"),
        ({"channels": [4, 4, 4, 0]}, "channels: 4 numbers above zero are needed"),
        ({"hidden": [4]}, "hidden: 0 numbers above zero are needed"),
    ],
)
def test_sizes_that_fit_no_model_are_refused(root, changes: dict, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Exception, match=words):
        build(root, architecture="cnn", **changes)


# ---- training and export ----


def test_training_step_draws_a_view_that_a_teacher_sees_too(root) -> None:  # type: ignore[no-untyped-def]
    student = build(root, architecture="cnn", augment={"shift": 2, "flip": "horizontal"}).module.train()
    batch = (pictures(8, 12, 10), torch.zeros(8, dtype=torch.int64), pictures(8, 12, 10))
    assert torch.equal(batch[0], batch[2])
    TASK.step(student, batch)
    assert not torch.equal(batch[0], batch[2])
    teacher = build(root, architecture="resnet", augment={"shift": 2, "flip": "horizontal"}).module.eval()
    shown = batch[2].clone()
    torch.testing.assert_close(TASK.step(teacher, batch).logits, teacher(shown))
    assert torch.equal(batch[2], shown)
    assert torch.equal(batch[0], pictures(8, 12, 10))


def test_smoothing_counts_in_training_alone(root) -> None:  # type: ignore[no-untyped-def]
    batch = (pictures(8, 12, 10), torch.arange(8) % 3, pictures(8, 12, 10))
    plain, smooth = (build(root, architecture="cnn", label_smoothing=e).module for e in (0.0, 0.3))
    assert TASK.step(plain.train(), batch).loss != TASK.step(smooth.train(), batch).loss
    losses = [TASK.step(build(root, architecture="cnn", label_smoothing=e).module.eval(), batch).loss for e in (0, 0.3)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("channels", [1, 3, 6, 12])
def test_gradient_of_a_strided_pointwise_convolution_is_right_on_every_processor(channels: int) -> None:
    layer = SkippingConv(channels, 10, 1, 2, bias=False).to(memory_format=torch.channels_last)
    plain = torch.nn.Conv2d(channels, 10, 1, 2, bias=False, dtype=torch.float64)
    plain.weight.data.copy_(layer.weight.detach())
    x = torch.randn(8, channels, 8, 8).contiguous(memory_format=torch.channels_last)
    for conv, given in ((layer, x), (plain, x.double())):
        conv(given).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad.double(), plain.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exported_graph_holds_no_norm_and_computes_what_torch_does(root, architecture: str) -> None:  # type: ignore[no-untyped-def]
    import onnxruntime

    model = build(root, architecture=architecture)
    for _ in range(3):  # running statistics that are not those of a fresh norm
        model.module.train()(pictures(16, 12, 10))
    graph: onnx.ModelProto = build_graphs(TASK, model, TASK.Options(), "fp32")["classify"]
    assert {"BatchNormalization", "Slice"}.isdisjoint(node.op_type for node in graph.graph.node)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (picture,) = session.get_inputs()
    assert (picture.type, picture.shape[1:]) == ("tensor(uint8)", [12, 10, 3])
    for count in (1, 5):
        label, probability = session.run(None, {"image": pictures(count, 12, 10).numpy()})
        with torch.no_grad():
            expected = model.module.eval()(pictures(count, 12, 10)).softmax(-1)
        np.testing.assert_allclose(probability, expected.numpy(), atol=1e-5)
        assert label.dtype == np.int64
        assert np.array_equal(label, expected.argmax(-1).numpy())
