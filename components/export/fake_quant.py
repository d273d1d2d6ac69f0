"""A network that computes in floats rounded to 8 bits, as its static int8 graph will (Jacob et al. 2018).

What a convolution, a product, a sum, a concatenation or a mean reads is rounded within a fixed range, and a layer's
weights output by output, as `quantize_qdq` does; gradients pass as if nothing were rounded. The network's own code is
left alone: `simulate` watches the functions its forward calls. Batch norms keep their statistics, since the graph folds
them into weights, to which that scale does not matter: an output's step is a share of its largest weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from components.core.files import read_json, write_json
from components.export.qdq import LARGEST, STEPS, reduced_scale

FILE = "ranges.json"
LAYERS = ("conv1d", "conv2d", "linear")
PASSING = {"add": "Add", "iadd": "Add", "cat": "Concat", "mean": "GlobalAveragePool", "avg_pool2d": "AveragePool"}
SAME = ("batch_norm", "relu", "max_pool2d", "flatten", "dropout", "contiguous", "to", "float", "getitem")
# what a picture passes before its first convolution
BYTES = ("permute", "to", "float", "sub", "mul", "contiguous")
ASKING = ("get", "size", "dim", "numel", "stride")  # of a tensor, not for its numbers

Observer = Callable[[str, Tensor], None]


class Ranges(nn.Module):
    """The smallest and largest value of each rounded tensor, a buffer (2,) float32; with an observer none is rounded.

    Names: of what a layer gives, the layer's path; of what it reads from elsewhere, `path:in`; of what is made of such
    tensors, the ONNX operator and the last of the layers in it: `Add:path`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observer: Observer | None = None

    def set(self, name: str, low: float, high: float) -> None:
        self.register_buffer(name.replace(".", "/"), torch.tensor([low, high]), persistent=False)  # `save_ranges` does

    def as_dict(self) -> dict[str, tuple[float, float]]:
        """Return {name: (smallest, largest)}."""
        return {name.replace("/", "."): (float(value[0]), float(value[1])) for name, value in self.named_buffers()}

    def rounded(self, name: str, x: Tensor) -> Tensor:
        """Return a tensor in 255 steps of its range, widened to zero; as it is where no range is known."""
        if self.observer is not None:
            self.observer(name, x)
            return x
        limits = getattr(self, name.replace(".", "/"), None)
        if limits is None:
            return x
        low, high = limits.clamp(max=0)[0], limits.clamp(min=0)[1]
        scale = (high - low) / STEPS
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero = (-low / scale).round().clamp(0, STEPS).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, STEPS)


class Simulated(nn.Module):
    """The class that a simulated network has before its own."""

    fake_quant: Ranges

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layers = (nn.Conv1d, nn.Conv2d, nn.Linear)
        names = {id(m.weight): name for name, m in self.named_modules() if isinstance(m, layers)}
        with _Simulation(self.fake_quant, names, args):
            return super().forward(*args, **kwargs)

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def simulate(module: nn.Module) -> Ranges:
    """Let a network round from now on, in place; return its ranges, of which there are none yet."""
    kind = type(module)
    module.__class__ = type(kind.__name__, (Simulated, kind), {})
    module.fake_quant = Ranges()
    return module.fake_quant


def save_ranges(module: nn.Module, folder: Path) -> None:
    """Write ranges.json beside the weights of a network that rounds; nothing beside others."""
    if isinstance(module, Simulated):
        write_json(folder / FILE, module.fake_quant.as_dict())


def load_ranges(module: nn.Module, folder: Path) -> None:
    """Let a network round, in place, if there are ranges beside its weights."""
    if (folder / FILE).is_file():
        ranges = simulate(module)
        for name, (low, high) in read_json(folder / FILE).items():
            ranges.set(name, low, high)


def plain(module: nn.Module) -> nn.Module:
    """Return a copy of a network that rounds nothing; where it does not anyway, itself."""
    if not isinstance(module, Simulated):
        return module
    floats = copy.deepcopy(module)
    floats.__class__ = type(module).__bases__[1]
    del floats.fake_quant
    return floats


@dataclass(frozen=True)
class _Held:
    """A tensor that exists in 8 bits: its range's name, the last layer in it, that layer's place.

    mean, factor: what was taken from a picture's bytes, and what they were multiplied by then, channel by channel.
    """

    tensor: Tensor  # kept, so that its id stays its own
    name: str
    layer: str = ""
    place: int = 0
    is_bytes: bool = False
    mean: Tensor | None = None
    factor: Tensor | None = None


class _Simulation(TorchFunctionMode):
    """One forward pass; `held` goes by the id of the tensor."""

    def __init__(self, ranges: Ranges, layers: Mapping[int, str], inputs: Sequence[Any]) -> None:
        super().__init__()
        self.ranges, self.layers, self.count = ranges, layers, 0
        self.held: dict[int, _Held] = {}
        for x in inputs:
            if isinstance(x, Tensor) and x.dtype == torch.uint8:
                self._hold(_Held(x, "", is_bytes=True))

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", "").strip("_"), kwargs or {}
        if name in ASKING or not args:
            return func(*args, **kwargs)
        if name in LAYERS and len(args) > 1 and id(args[1]) in self.layers:
            return self._layer(func, args, kwargs)
        first = self.held.get(id(args[0]))
        if first is not None and first.is_bytes:
            out = func(*args, **kwargs)
            if name in BYTES:
                mean = args[1] if name == "sub" else first.mean
                factor = args[1] if name == "mul" else first.factor
                self._hold(_Held(out, "", is_bytes=True, mean=mean, factor=factor))
            return out
        if first is not None and name in SAME:
            out = func(*args, **kwargs)
            self._hold(_Held(out, first.name, first.layer, first.place))
            return out
        if name in PASSING and (parts := self._all_held(name, args, kwargs)):
            last = max(parts, key=lambda held: held.place)
            out = func(*self._read_all(args), **kwargs)
            self._hold(_Held(out, f"{PASSING[name]}:{last.layer}", last.layer, last.place))
            return out
        return func(*self._read_all(args), **kwargs)

    def _layer(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        x, weight, *rest = args
        layer, held = self.layers[id(weight)], self.held.get(id(x))
        self.count += 1
        factor = None
        if held is None:
            x = self.ranges.rounded(f"{layer}:in", x)
        elif held.is_bytes:
            factor = held.factor
            if held.mean is not None and factor is not None and weight.dim() == 4 and isinstance(rest[2], tuple):
                x, rest[2] = _padded(x, held.mean, factor, rest[2]), 0
        else:
            x = self.ranges.rounded(held.name, x)
        out: Tensor = func(x, rounded_weight(weight, factor), *rest, **kwargs)
        if weight.dim() > 2:  # what a product gives stays a float until a layer reads it
            self._hold(_Held(out, layer, layer, self.count))
        return out

    def _all_held(self, name: str, args: Any, kwargs: Any) -> list[_Held]:
        """Return what an operator reads if all of it is held, or nothing."""
        if name == "mean":
            axes = args[1] if len(args) == 2 and not kwargs else None
            if not isinstance(axes, Sequence) or [axis % args[0].dim() for axis in axes] != [2, 3]:
                return []
        read = args[0] if name == "cat" else args[:2] if PASSING[name] == "Add" else args[:1]
        found = [self.held.get(id(x)) for x in read]
        return [held for held in found if held is not None] if None not in found else []

    def _read_all(self, args: Any) -> list[Any]:
        """Return arguments with what is held as it is read, from lists too."""
        return [
            type(value)(map(self._read, value)) if type(value) in (list, tuple) else self._read(value) for value in args
        ]

    def _read(self, value: Any) -> Any:
        held = self.held.get(id(value))
        return self.ranges.rounded(held.name, value) if held is not None and not held.is_bytes else value

    def _hold(self, held: _Held) -> None:
        self.held[id(held.tensor)] = held


def _padded(x: Tensor, mean: Tensor, factor: Tensor, padding: tuple[int, int]) -> Tensor:
    """Return normalized pictures with a border of one byte for all channels, as `with_int8_forms` pads them."""
    border = (mean.mean().round().clamp(0, STEPS) - mean) * factor
    rows, columns = padding
    return F.pad(x - border, (columns, columns, rows, rows)) + border


def rounded_weight(weight: Tensor, factor: Tensor | None = None) -> Tensor:
    """Return a layer's weight (outputs, ...) in steps of which two neighbours of a sign make 128 at most.

    That is `reduced_scale` of qdq.py: sums are exact on every processor. factor: what each channel of
    a picture is multiplied by before the first convolution, which its weights take over in the graph.
    """
    full = weight
    if factor is not None:
        places = (1,) * (weight.dim() - 2)
        share = (factor / factor.abs().max()).detach().reshape(-1, *places).to(weight.dtype)
        full = weight * share
    matrix = full.detach().float().cpu().numpy()
    if factor is not None:  # the kernel takes a picture's channels four by four
        matrix = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % 4), *[(0, 0)] * (matrix.ndim - 2)))
    scale = torch.from_numpy(reduced_scale(matrix, 0)).to(weight.device)
    zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    rounded = torch.fake_quantize_per_channel_affine(full.float(), scale, zero, 0, -LARGEST, LARGEST)
    return rounded if factor is None else rounded / share
