"""Audio generation: a WaveNet that says a word as a speaker does, sample by sample, each one of 256 mu-law codes.

Metric: `bits` a sample, of the first quarter of a second of held-out recordings, each sample given those before it;
less is better, 8 is guessing; the report tells what a guess from single samples costs. `whole_bits`,
of the torch model alone, is the same over whole recordings, and `receptive_ms` how far back a sample depends on others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.core.config import Config
from components.core.files import read_json
from components.core.task import GraphSpec, LoopSpec, Metric, StepOutput, Task
from components.data.coded_sound_dataset import NOTHING, CodedSounds, prepare_coded
from components.data.readers.numbered_takes import Split as SplitConfig
from components.inference.audio_generation import MOST_SECONDS
from components.inference.mu_law import CODES, SILENCE
from components.models.sound_generator import CONDITIONS, Body, Finish, SoundGenerator, Start
from components.models.wavenet import WaveNet, dilation_cycles

SCORED_S = 0.25  # of each recording
BATCH = 50
MOST_STEPS = round(MOST_SECONDS * 48_000)  # of the loop, whatever the rate


class DataConfig(Config):
    """recipes.<name>.data: nothing to choose, the recordings are taken as they come."""


class ModelConfig(Config):
    """The network's size: layers of a cycle have dilations 1, 2, 4 and so on."""

    width: int = Field(32, gt=0, description="channels of the residual path")
    skip: int = Field(64, gt=0, description="channels of the skips and of the layer behind them")
    cycles: int = Field(2, gt=0)
    layers: int = Field(10, gt=0, description="of each cycle")


class AnswerOptions(Config):
    """variants.<name>.options: how it draws, and how long an answer is that does not ask for another length."""

    temperature: float = Field(1.0, gt=0, description="below 1 the probable becomes more so")
    seconds: float = Field(0.5, gt=0, le=MOST_SECONDS)


class AudioGeneration(Task):
    """See the module."""

    name = "audio_generation"
    metric = Metric("bits", "min", "bits")
    Split, Data, Model, Options = SplitConfig, DataConfig, ModelConfig, AnswerOptions
    predictor = "audio_generation"

    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
        return prepare_coded(raw, out, split)

    def dataset(self, root: Path, split: str) -> CodedSounds:
        return CodedSounds.load(root, split)

    def build_model(self, config: ModelConfig, root: Path) -> nn.Module:
        about = read_json(root / "assets" / "sound.json")
        dilations = dilation_cycles(config.cycles, config.layers)
        wavenet = WaveNet(config.width, config.skip, dilations, CONDITIONS)
        model: Any = SoundGenerator(wavenet, config.skip, CODES, SILENCE, len(about["words"]), len(about["speakers"]))
        model.rate = about["rate"]
        return model

    def step(self, model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> StepOutput:
        code_BT, word_B, speaker_B = batch
        logits_BTV = model(code_BT.clamp(min=0), word_B, speaker_B).float()
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), code_BT.flatten(), ignore_index=NOTHING)
        return StepOutput(loss, logits_BTV.flatten(0, 1), code_BT.flatten(), {"bits": loss.detach() / np.log(2)})

    def graphs(self, model: Any, options: AnswerOptions) -> list[GraphSpec | LoopSpec]:
        constants, state = ["known", "chance", "drives"], ["position", "past", "before", "so_far", "cost"]
        start, body = Start(model), Body(model, options.temperature)
        given_BT, row_B = torch.full((3, 5), -1), torch.zeros(3, dtype=torch.int64)
        example = (given_BT, torch.full((3, 5), 0.5), row_B, row_B.clone())
        with torch.no_grad():
            values = start(*example)
        fixed, values = list(values[:3]), list(values[3:])
        auto = torch.export.Dim.AUTO
        row, both = {0: auto}, {0: auto, 1: auto}
        return [
            LoopSpec(
                name="generate",
                start=GraphSpec(
                    "start",
                    start,
                    example,
                    ["given", "noise", "word", "speaker"],
                    [*constants, *state],
                    (both, both, row, row),
                ),
                body=GraphSpec(
                    "body",
                    body,
                    (fixed, *values),
                    [*constants, *state],
                    ["go_on", *(f"next_{name}" for name in state)],
                    ([both, both, row], None, row, row, both, both),
                ),
                finish=GraphSpec("finish", Finish(), tuple(values[3:]), state[3:], ["code", "bits"], (both, both)),
                constants=constants,
                state=state,
                max_steps=MOST_STEPS,
            )
        ]

    def score(self, predictor: Any, examples: CodedSounds) -> dict[str, float]:
        """Return the mean bits of the samples in the first SCORED_S seconds, every one of them given to the graph."""
        longest = round(SCORED_S * examples.rate)
        total, samples = 0.0, 0
        for start in range(0, len(examples), BATCH):
            rows = range(start, min(start + BATCH, len(examples)))
            codes, words_B, speakers_B = examples.collate([examples[i] for i in rows])
            given_BT = codes[:, :longest].numpy()
            noise_BT = np.zeros(given_BT.shape, np.float32)
            _, bits_BT = predictor.run(given_BT, noise_BT, words_B.numpy(), speakers_B.numpy())
            total += float(bits_BT[given_BT >= 0].sum(dtype=np.float64))
            samples += int((given_BT >= 0).sum())
        return {"bits": total / samples}

    @torch.inference_mode()
    def score_model(self, model: Any, examples: CodedSounds) -> dict[str, float]:
        """Return `whole_bits` over whole recordings, and `receptive_ms`."""
        model.eval()
        total, samples = 0.0, 0
        for i in range(len(examples)):
            batch = examples.collate([examples[i]])
            total += float(self.step(model, batch).metrics["bits"]) * len(examples.codes[i])
            samples += len(examples.codes[i])
        receptive_ms = 1000 * model.wavenet.receptive_field / model.rate
        return {"whole_bits": total / samples, "receptive_ms": receptive_ms}


TASK = AudioGeneration()
