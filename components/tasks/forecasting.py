"""Forecasting: the rows to come of a table by time, all channels at once, by recurrent and dilated causal networks.

Metric: mse, the mean squared error in training deviations over all test windows (the published tables' protocol), less
is better. Expect at horizon 96 on etth1, test: about 0.37 by the GRU in about a minute of training; on exchange-rate,
where nobody much beats "nothing changes", about that baseline's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from components.core.config import Config
from components.core.errors import ConfigError, ModelpressError
from components.core.task import GraphSpec, LoopSpec, Metric, StepOutput, Task
from components.data.series_windows import Framing, SeriesWindows, prepare_series, read_facts
from components.data.series_windows import Split as SplitConfig
from components.models.dilated_forecaster import DilatedForecaster
from components.models.forecaster import Forecaster, SeriesNetwork
from components.models.segment_rnn import SegmentRNN


class ModelConfig(Config):
    """A teacher or a student of any architecture."""

    architecture: Literal["rnn", "lstm", "gru", "wavenet"]
    width: int = Field(gt=0, description="of state and embedding; of a wavenet's layers")
    segment: int = Field(24, gt=0, description="rnn, lstm, gru: values a step; divides look_back and horizon")
    layers: int = Field(8, gt=0, le=12, description="wavenet: it sees 2^layers values")
    dropout: float = Field(0.0, ge=0, lt=1)
    loss: Literal["absolute_error", "squared_error"] = "absolute_error"

    @model_validator(mode="after")
    def _width_halves(self) -> Self:
        if self.width % 2:
            raise ValueError(f"width: an even number is needed, got {self.width}")
        return self

    def idle(self) -> Mapping[str, str]:
        """Return the option that belongs to other architectures."""
        idle, owner = ("segment", "rnn, lstm and gru") if self.architecture == "wavenet" else ("layers", "wavenet")
        return {idle: f"is of architecture {owner}, but architecture is {self.architecture}"}


class AnswerOptions(Config):
    """variants.<name>.options: the graph answers in one way only."""


class Forecast(nn.Module):
    """A forecaster as a user meets it: rows in the data's unit in and out."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, past_BTC: Tensor) -> Tensor:
        return self.model(past_BTC) * self.model.deviation + self.model.mean


class Forecasting(Task):
    """See the module."""

    name = "forecasting"
    metric = Metric("mse", "min")
    Split, Data, Model, Options = SplitConfig, Framing, ModelConfig, AnswerOptions
    predictor = "forecasting"

    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: Framing) -> dict[str, Any]:
        return prepare_series(raw, out, split, data)

    def dataset(self, root: Path, split: str) -> SeriesWindows:
        return SeriesWindows.load(root, split)

    def build_model(self, config: ModelConfig, root: Path) -> nn.Module:
        facts = read_facts(root)
        model: Any = Forecaster(_network(config, facts), facts["mean"], facts["deviation"])
        model.loss, model.look_back = config.loss, facts["look_back"]
        return model

    def step(self, model: Any, batch: tuple[Tensor, Tensor]) -> StepOutput:
        past_BTC, future_BHC = batch
        forecast_BHC, target_BHC = model(past_BTC).float(), model.scaled(future_BHC)
        error_BHC = forecast_BHC - target_BHC
        mse, mae = error_BHC.square().mean(), error_BHC.abs().mean()
        loss = mae if model.loss == "absolute_error" else mse
        return StepOutput(loss, forecast_BHC, target_BHC, {"mse": mse.detach(), "mae": mae.detach()})

    def graphs(self, model: Any, options: AnswerOptions) -> list[GraphSpec | LoopSpec]:
        past = torch.zeros(2, model.look_back, len(model.mean))
        free = ({0: torch.export.Dim("batch")},)
        return [GraphSpec("forecast", Forecast(model), (past,), ["past"], ["future"], free)]

    def score(self, predictor: Any, examples: SeriesWindows) -> dict[str, float]:
        """Return `mse` and `mae`, and those of two naive forecasts: the last row again, the last season again."""
        forecasts = {
            "": predictor.forecast(examples.past),
            "persistence_": examples.persistence(),
            "seasonal_": examples.seasonal_naive(),
        }
        errors = {name: examples.errors(forecast) for name, forecast in forecasts.items()}
        return {
            f"{name}{measure}": float(np.mean(of(error)))
            for name, error in errors.items()
            for measure, of in (("mse", np.square), ("mae", np.abs))
        }

    def score_model(self, model: nn.Module, examples: SeriesWindows) -> dict[str, float]:
        return {}  # the predictor measures all there is


def _network(config: ModelConfig, facts: Mapping[str, Any]) -> SeriesNetwork:
    horizon, channels = facts["horizon"], len(facts["channels"])
    if config.architecture == "wavenet":
        if facts["look_back"] > 2**config.layers:
            raise ConfigError(
                [
                    f"model.layers: {config.layers} layers see {2**config.layers} rows, look_back asks for "
                    f"{facts['look_back']}; give {(facts['look_back'] - 1).bit_length()} layers, or look back less far"
                ]
            )
        return DilatedForecaster(config.width, config.layers, horizon, channels, config.dropout)
    if facts["look_back"] % config.segment or horizon % config.segment:
        raise ModelpressError(
            f"model.segment: {config.segment} does not divide look_back {facts['look_back']} and horizon {horizon}; "
            "choose one that does"
        )
    return SegmentRNN(config.architecture, config.width, config.segment, horizon, channels, config.dropout)


TASK = Forecasting()
