"""Binary addition: two numbers bit by bit, lowest first, through a recurrent network that must learn to carry.

Metric: `exact`, the share of sums with every bit right, in percent. Expect 100 with signed inputs, cross entropy and
Adam after some hundred examples, seen one at a time, also for 64-bit numbers; the published settings take thousands.
Data: made here, from the split's parameters alone; no pair of dev or test occurs in train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from components.core.config import Config, parse_config
from components.core.errors import ModelpressError
from components.core.files import write_text
from components.core.task import GraphSpec, LoopSpec, Metric, StepOutput, Task
from components.inference.binary_addition import MOST_BITS, bits_of
from components.models.simple_rnn import Activation, Init, SimpleRNN


class SplitConfig(Config):
    """datasets.<name>.split: how many pairs, of how many bits a sum; dev and test may be longer than train."""

    bits: int = Field(8, ge=4, le=12, description="of a sum; its two numbers have one less")
    test_bits: int | None = Field(None, ge=5, le=65, description="of a sum of dev and test, more than bits; or as bits")
    train: int = Field(gt=0, description="examples; a pair may come twice")
    dev: int = Field(gt=0)
    test: int = Field(gt=0)
    seed: int = 1

    @model_validator(mode="after")
    def _longer(self) -> Self:
        if self.test_bits is not None and self.test_bits <= self.bits:
            raise ValueError(f"test_bits: {self.test_bits} is no more than bits ({self.bits}); leave it out")
        return self


class DataConfig(Config):
    """recipes.<name>.data: nothing to choose."""


class ModelConfig(Config):
    """A simple recurrent network."""

    hidden: int = Field(16, gt=0)
    activation: Activation = "sigmoid"
    init: Init = "xavier"
    bias: bool = False
    signed: bool = Field(False, description="bits enter as -1 and 1")
    # output_slope: the squared error's gradient, but with the sigmoid's slope taken at its output, where it is never
    # flat. A slip of hand-written backward passes; with it ReLU's gradient leaps and it never learns, as published
    loss: Literal["squared_error", "output_slope", "cross_entropy"] = "cross_entropy"


class AnswerOptions(Config):
    """variants.<name>.options: the graph answers in one way only."""


@dataclass(frozen=True)
class Sums:
    """One split: pairs of numbers, and how many bits a sum has."""

    pairs: list[tuple[int, int]]
    bits: int

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.pairs[index]

    def collate(self, examples: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Return the pairs' bits uint8 (B, T, 2) and the sums' bits int64 (B, T)."""
        sums = [(first + second, 0) for first, second in examples]
        sum_BT = bits_of(sums, self.bits)[:, :, 0].astype(np.int64)
        return torch.from_numpy(bits_of(examples, self.bits)), torch.from_numpy(sum_BT)

    def lengths(self) -> None:
        """Return None: all sums of a split are equally long, so the recipe gives batch_size."""

    def inputs(self) -> list[str]:
        """Return each pair as the predictor takes it."""
        return [f"{first} + {second}" for first, second in self.pairs]

    def references(self) -> list[str]:
        """Return each sum."""
        return [str(first + second) for first, second in self.pairs]

    def with_targets(self, answers: list[str]) -> Sums:
        """Return the same pairs: what a sum is, no teacher can change."""
        return self

    def __add__(self, other: Sums) -> Sums:
        """Return the pairs of both."""
        return Sums(self.pairs + other.pairs, max(self.bits, other.bits))


class Start(nn.Module):
    """bits -> what the inputs drive (constant); then position, state, logits so far."""

    def __init__(self, model: SimpleRNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, bits_BT2: Tensor) -> tuple[Tensor, ...]:
        driven_BTH = self.model.driven(bits_BT2)
        position = torch.zeros((), dtype=torch.int64, device=bits_BT2.device)
        return driven_BTH, position, self.model.start(driven_BTH), driven_BTH[:, :0, 0].clone()


class Body(nn.Module):
    """One bit: advance the state, append its logit."""

    def __init__(self, model: SimpleRNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, driven: list[Tensor], position: Tensor, state: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        driven_BTH = driven[0]
        logit_B1, state = self.model.advance(driven_BTH.index_select(1, position[None])[:, 0], state)
        go_on = position + 1 < driven_BTH.shape[1]
        return go_on, position + 1, state, torch.cat([logits, logit_B1], 1)


class Finish(nn.Module):
    """logits -> the sum's bits and the probability that each is one."""

    def forward(self, logits_BT: Tensor) -> tuple[Tensor, Tensor]:
        return (logits_BT > 0).to(torch.int64), logits_BT.float().sigmoid()


class BinaryAddition(Task):
    """See the module."""

    name = "binary_addition"
    metric = Metric("exact", "max", "%")
    Split, Data, Model, Options = SplitConfig, DataConfig, ModelConfig, AnswerOptions
    predictor = "binary_addition"

    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
        config = parse_config(SplitConfig, dict(split), f"datasets.{raw.name}.split")
        rng = np.random.default_rng(config.seed)
        half = 1 << (config.bits - 1)  # numbers below it, so that a sum has no more bits
        longest, count = config.test_bits or config.bits, config.dev + config.test
        possible = 1 << 2 * (longest - 1)
        if 2 * count > possible:  # beyond it, most of what is drawn would have to be left out
            where, most = f"datasets.{raw.name}.split", possible // 2
            raise ModelpressError(f"{where}: {count:,} pairs for dev and test, at most {most:,}; ask for fewer")
        if config.test_bits:
            train = rng.integers(0, half, (config.train, 2), dtype=np.uint64)
            held_out = _drawn(rng, 1 << (longest - 1), count, besides=train, twice=False)
        else:
            held_out = _distinct(rng, half, count)
            train = _drawn(rng, half, config.train, besides=held_out, twice=True)
        parts = {
            "train": (train, config.bits),
            "dev": (held_out[: config.dev], longest),
            "test": (held_out[config.dev :], longest),
        }
        write_text(out / "assets" / "bits.txt", f"{config.bits}\n")  # what a model of this data was taught
        for name, (pairs, bits) in parts.items():
            np.savez(out / f"{name}.npz", pairs=pairs.astype(np.uint64), bits=np.int64(bits))
        return {name: len(pairs) for name, (pairs, _) in parts.items()}

    def dataset(self, root: Path, split: str) -> Sums:
        with np.load(root / f"{split}.npz", allow_pickle=False) as arrays:
            return Sums([(int(a), int(b)) for a, b in arrays["pairs"]], int(arrays["bits"]))

    def build_model(self, config: ModelConfig, root: Path) -> nn.Module:
        model = SimpleRNN(config.hidden, config.activation, config.init, bias=config.bias, signed=config.signed)
        model.loss = config.loss  # type: ignore[assignment]
        return model

    def step(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Return the loss of whole sums: summed over a sum's bits, the mean over the batch."""
        bits_BT2, sum_BT = batch
        logits_BT = model(bits_BT2)
        target_BT = sum_BT.to(logits_BT.dtype)
        loss_BT = _LOSSES[model.loss](logits_BT, target_BT)  # type: ignore[index]
        right_B = ((logits_BT > 0) == (sum_BT > 0)).all(1)
        # as logits of the two classes a bit has, which is what distillation compares
        logits_N2 = torch.stack([torch.zeros_like(logits_BT), logits_BT], -1).flatten(0, 1)
        return StepOutput(loss_BT.sum(1).mean(), logits_N2, sum_BT.flatten(), {"exact": 100 * right_B.float().mean()})

    def graphs(self, model: Any, options: AnswerOptions) -> list[GraphSpec | LoopSpec]:
        constants, state = ["driven"], ["position", "state", "logits"]
        start, body = Start(model), Body(model)
        bits = torch.ones(3, 5, 2, dtype=torch.uint8)
        with torch.no_grad():
            driven, *values = start(bits)
            for _ in range(2):
                _, *values = body([driven], *values)
        auto = torch.export.Dim.AUTO
        both = {0: auto, 1: auto}
        return [
            LoopSpec(
                name="add",
                start=GraphSpec("start", start, (bits,), ["bits"], [*constants, *state], (both,)),
                body=GraphSpec(
                    "body",
                    body,
                    ([driven], *values),
                    [*constants, *state],
                    ["go_on", *(f"next_{name}" for name in state)],
                    ([both], None, {0: auto}, both),
                ),
                finish=GraphSpec("finish", Finish(), (values[2],), ["logits"], ["sum", "probability"], (both,)),
                constants=constants,
                state=state,
                max_steps=MOST_BITS,
            )
        ]

    def score(self, predictor: Any, examples: Sums) -> dict[str, float]:
        answers, references = predictor.predict(examples.inputs()), examples.references()
        return {"exact": 100 * sum(map(str.__eq__, answers, references)) / len(references)}

    def score_model(self, model: nn.Module, examples: Sums) -> dict[str, float]:
        return {}  # the predictor measures all there is


def _cross_entropy(logits_BT: Tensor, target_BT: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits_BT, target_BT, reduction="none")


def _squared_error(logits_BT: Tensor, target_BT: Tensor) -> Tensor:
    return (logits_BT.sigmoid() - target_BT) ** 2 / 2


def _output_slope(logits_BT: Tensor, target_BT: Tensor) -> Tensor:
    """Return the squared error with another gradient: (y - target) s'(y) for y = s(logit), s the sigmoid."""
    y_BT = logits_BT.detach().sigmoid()
    again_BT = y_BT.sigmoid()
    slope_BT = (y_BT - target_BT) * again_BT * (1 - again_BT)
    return _squared_error(logits_BT, target_BT).detach() + slope_BT * (logits_BT - logits_BT.detach())


_LOSSES = {"cross_entropy": _cross_entropy, "squared_error": _squared_error, "output_slope": _output_slope}


def _distinct(rng: np.random.Generator, half: int, count: int) -> np.ndarray:
    """Return `count` pairs, no two of them the same, each number below `half`."""
    drawn = rng.choice(half * half, count, replace=False)
    return np.stack([drawn // half, drawn % half], 1)


def _drawn(rng: np.random.Generator, below: int, count: int, besides: np.ndarray, twice: bool) -> np.ndarray:
    """Return `count` pairs of numbers below `below`, none of them among `besides`; `twice`: one may come again."""
    taken = set(map(tuple, besides.tolist()))
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count:
        for pair in map(tuple, rng.integers(0, below, (2 * count + 64, 2), dtype=np.uint64).tolist()):
            if pair not in taken:
                pairs.append(pair)
                if not twice:
                    taken.add(pair)
    return np.array(pairs[:count], np.uint64)


TASK = BinaryAddition()
