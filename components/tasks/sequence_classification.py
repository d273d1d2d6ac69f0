"""Sequence classification: which word a recording holds, by a recurrent network or by a WaveNet on raw samples.

Metric: accuracy in percent. Expect on spoken digits (fsdd), test: a GRU 99. `silence_1s` and `silence_4s`, of the
torch model alone, are its accuracy with so much silence behind each recording: what it remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.core.config import Config
from components.core.task import GraphSpec, LoopSpec, Metric, StepOutput, Task
from components.data.readers.numbered_takes import Split as SplitConfig
from components.data.sound_augmentation import Augmentation, augment
from components.data.sound_dataset import SoundDataset, prepare_recordings, read_rate
from components.evaluation.labelled import accuracy
from components.inference.labels import read_labels
from components.models.log_mel import LogMel
from components.models.recurrent_stack import Cell, RecurrentStack
from components.models.sound_classifier import RecurrentClassifier, WaveNetClassifier
from components.models.wavenet import WaveNet, dilation_cycles

SILENCES_S = (1, 4)  # behind each recording, in score_model
BATCH = 50


class DataConfig(Config):
    """recipes.<name>.data: nothing to choose, the recordings are taken as they come."""


class ModelConfig(Config):
    """A recurrent network over log-mel frames, or a WaveNet over raw samples."""

    architecture: Literal["recurrent", "wavenet"]
    width: int = Field(64, gt=0, description="units of each direction; channels of a WaveNet")
    dropout: float = Field(0.2, ge=0, lt=1)
    # recurrent
    cell: Cell = "gru"
    bidirectional: bool = False
    depth: int = Field(1, gt=0, description="recurrent layers on one another")
    memory: int = Field(0, ge=0, description="steps an untrained LSTM or GRU remembers; 0: torch's initial weights")
    bands: int = Field(40, gt=0, description="of the log-mel features")
    # wavenet
    skip: int = Field(64, gt=0, description="skip channels")
    cycles: int = Field(2, gt=0, description="how often the dilations begin at 1 again")
    layers: int = Field(6, gt=0, description="layers of a cycle, each with twice the dilation of the one before")
    filters: int = Field(64, gt=0, description="that hear the raw samples")
    stride: int = Field(40, gt=0, multiple_of=4, description="samples a step")
    # how it is trained
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: Augmentation = Augmentation()

    def idle(self) -> Mapping[str, str]:
        """Return the options that belong to the other architecture, or to other cells."""
        if self.architecture == "wavenet":
            reason = "is of architecture recurrent, but architecture is wavenet"
            return dict.fromkeys(("cell", "bidirectional", "depth", "memory", "bands"), reason)
        reason = "is of architecture wavenet, but architecture is recurrent"
        idle = dict.fromkeys(("skip", "cycles", "layers", "filters", "stride"), reason)
        return idle | ({"memory": "is of cells lstm and gru, but cell is rnn"} if self.cell == "rnn" else {})


class AnswerOptions(Config):
    """variants.<name>.options: the graph answers in one way only."""


class Classify(nn.Module):
    """A classifier as a user meets it: the most probable class and the probability of each."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples_BT: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor]:
        probability_BC = self.model(samples_BT, length_B).float().softmax(-1)
        return probability_BC.argmax(-1), probability_BC


class SequenceClassification(Task):
    """See the module."""

    name = "sequence_classification"
    metric = Metric("accuracy", "max", "%")
    Split, Data, Model, Options = SplitConfig, DataConfig, ModelConfig, AnswerOptions
    predictor = "sequence_classification"

    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
        return prepare_recordings(raw, out, split)

    def dataset(self, root: Path, split: str) -> SoundDataset:
        return SoundDataset.load(root, split)

    def build_model(self, config: ModelConfig, root: Path) -> nn.Module:
        model: Any = _network(config, read_rate(root), len(read_labels(root / "assets")))
        model.rate, model.label_smoothing, model.augment = read_rate(root), config.label_smoothing, config.augment
        return model

    def step(self, model: Any, batch: Any) -> StepOutput:
        samples_BT, length_B, classes_B, heard = batch
        if model.training:
            heard[:] = augment(samples_BT, length_B, model.augment, model.rate)
        logits_BC = model(*heard).float()
        loss = F.cross_entropy(logits_BC, classes_B, label_smoothing=model.label_smoothing if model.training else 0.0)
        accuracy = 100 * (logits_BC.argmax(-1) == classes_B).float().mean()
        return StepOutput(loss, logits_BC, classes_B, {"accuracy": accuracy})

    def graphs(self, model: Any, options: AnswerOptions) -> list[GraphSpec | LoopSpec]:
        samples_BT, length_B = torch.ones(2, 4000, dtype=torch.int16), torch.tensor([4000, 2100])
        rows, steps = torch.export.Dim("batch"), torch.export.Dim("samples", min=800)
        return [
            GraphSpec(
                "classify",
                Classify(model),
                (samples_BT, length_B),
                ["samples", "length"],
                ["label", "probability"],
                ({0: rows, 1: steps}, {0: rows}),
            )
        ]

    def score(self, predictor: Any, examples: SoundDataset) -> dict[str, float]:
        return {"accuracy": accuracy(predictor.predict(examples.inputs()), examples.references())}

    def score_model(self, model: nn.Module, examples: SoundDataset) -> dict[str, float]:
        """Return `silence_<n>s`: the accuracy in percent with n seconds of silence behind each recording."""
        return {f"silence_{s}s": _accuracy(model.eval(), examples.with_silence(s)) for s in SILENCES_S}


def _network(config: ModelConfig, rate: int, classes: int) -> nn.Module:
    if config.architecture == "wavenet":
        wavenet = WaveNet(config.width, config.skip, dilation_cycles(config.cycles, config.layers))
        return WaveNetClassifier(rate, wavenet, config.filters, config.skip, config.stride, classes, config.dropout)
    stack = RecurrentStack(
        config.cell,
        config.bands,
        config.width,
        config.depth,
        bidirectional=config.bidirectional,
        dropout=config.dropout,
        memory=config.memory,
    )
    return RecurrentClassifier(LogMel(rate, config.bands), stack, classes, config.dropout)


@torch.inference_mode()
def _accuracy(model: nn.Module, examples: SoundDataset) -> float:
    right = 0
    for start in range(0, len(examples), BATCH):
        rows = range(start, min(start + BATCH, len(examples)))
        samples_BT, length_B, classes_B, _ = examples.collate([examples[i] for i in rows])
        right += int((model(samples_BT, length_B).argmax(-1) == classes_B).sum())
    return 100 * right / len(examples)


TASK = SequenceClassification()
