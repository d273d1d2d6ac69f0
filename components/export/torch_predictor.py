"""A predictor that answers by the torch model itself: what every exported variant is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.core.task import Task, TrainedModel
from components.export.torch_session import TorchSession
from components.inference.predictor import Predictor, predictor_class


def torch_predictor(task: Task, model: TrainedModel, options: Any, assets: Path) -> Predictor:
    """Return the task's predictor over eager torch instead of ONNX Runtime."""
    sessions = {spec.name: TorchSession(spec) for spec in task.graphs(model.module.eval(), options)}
    return predictor_class(task.predictor)(sessions, assets, options.model_dump())
