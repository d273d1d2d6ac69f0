"""Distillation: a small student learns from the teacher's distributions, answers, features, or several of them.

Logit distillation: Hinton et al. 2015. Sequence-level distillation: Kim and Rush 2016 (the student trains on what the
teacher would answer, beside the references). Feature distillation: Romero et al. 2015. A student may begin as the
teacher without some of its layers (Sanh et al. 2019, Shleifer and Rush 2020): it then needs little training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from components.compression.context import Context, Frozen, Step
from components.compression.distillation_loss import distillation_loss, kept_distillation_loss
from components.compression.feature import Feature, feature_step, with_projection
from components.compression.kept_logits import KeptLogits
from components.core.config import Config, parse_config
from components.core.errors import ConfigError
from components.core.task import StepOutput, Task, TaskDataset, TrainedModel


class Logit(Config):
    """(1 - alpha) of the student's own loss and alpha of the distance to the teacher.

    The distance of distributions over classes is taken at a temperature; that of predicted numbers is the squared one.
    """

    temperature: float = Field(1.0, gt=0)
    alpha: float = Field(0.5, ge=0, le=1)
    keep: int | None = Field(
        None, gt=0, description="likeliest classes kept of each target: the teacher is asked once, not each epoch"
    )


class Distill(Config):
    """A student with the given changes to the teacher's model, fitted to the teacher."""

    model: dict[str, Any]
    start: Literal["scratch", "teacher"] = Field(
        "scratch",
        description="teacher: weights of the teacher's name and shape are taken over; fewer layers: the first",
    )
    sequence: dict[str, Any] | None = Field(None, description="the task's Options with which the teacher answers")
    logit: Logit | None = None
    feature: Feature | None = None
    train: dict[str, Any] = {}

    @model_validator(mode="after")
    def _keep_saves_something(self) -> Distill:
        if self.feature and self.logit and self.logit.keep:
            raise ValueError("logit.keep: feature asks the teacher in each step anyway; leave one of them out")
        return self

    def apply(self, model: TrainedModel, context: Context) -> TrainedModel:
        """Return a new student of `model`."""
        config = parse_config(context.task.Model, model.config.changed(self.model), "distill.model")
        torch.manual_seed(0)  # the student's first weights
        student = TrainedModel(config, context.task.build_model(config, context.root))
        if self.start == "teacher":
            share = take_over(model.module, student.module)
            print(f"begins with {share:.0%} of its weights from the teacher", flush=True)
        data = with_answers(model, context, self.sequence)
        teacher = Frozen(model.module)
        kept = kept_by(model, context, data, self.logit)
        step, fitted = distilling_step(context.task, teacher, self.logit, kept), student.module
        if self.feature is not None:
            step = feature_step(step, context.task, teacher, self.feature)
            fitted = with_projection(student.module, model.module, self.feature, context)
        context.fit(fitted, step, data, self.train)
        return student


def take_over(teacher: nn.Module, student: nn.Module) -> float:
    """Give the student every weight of the teacher that has the name and the shape of its own; return their share.

    Raises:
        ConfigError: it is so of no matrix, so the student would begin from scratch.
    """
    theirs, own = teacher.state_dict(), student.state_dict()  # a norm's statistics too
    shared = [name for name, weight in own.items() if name in theirs and theirs[name].shape == weight.shape]
    if not any(own[name].dim() > 1 for name in shared):
        raise ConfigError(["start: no matrix of the student has the teacher's shape; keep its width, or take scratch"])
    with torch.no_grad():
        for name in shared:
            own[name].copy_(theirs[name])
    taken, all_ = (sum(own[name].numel() for name in names) for names in (shared, own))
    return taken / all_


def with_answers(teacher: TrainedModel, context: Context, options: Mapping[str, Any] | None) -> TaskDataset:
    """Return the training data, and where options say how to search, its inputs again with the teacher's answers.

    Raises:
        ConfigError: the task's examples have nothing that an answer could replace.
    """
    if options is None:
        return context.train
    answered = context.train.with_targets(context.answers(teacher, context.train, options))
    if answered is context.train:
        raise ConfigError(["sequence: a teacher's answers change nothing in this task's examples; leave it out"])
    return context.train + answered


def kept_by(teacher: TrainedModel, context: Context, data: TaskDataset, logit: Logit | None) -> KeptLogits | None:
    """Return what the teacher says of the training data, where `logit` wants it kept."""
    if logit is None or logit.keep is None:
        return None
    return context.kept_logits(teacher, data, logit.keep, logit.temperature)


def distilling_step(
    task: Task, teacher: TrainedModel | Frozen, logit: Logit | None, kept: KeptLogits | None = None
) -> Step:
    """Return a step whose loss also draws the student towards the teacher; the task's own where logit is None.

    kept: what the teacher said before, in place of asking it.
    """
    if logit is None:
        return task.step
    frozen = teacher if isinstance(teacher, Frozen) else Frozen(teacher.module)

    def step(student: nn.Module, batch: Any) -> StepOutput:
        output = task.step(student, batch)
        if output.logits.shape[-1] < 2 and not output.numeric:
            raise ConfigError(["logit: this task has no distribution over classes to learn; leave it out"])
        if not student.training:  # the dev curve shows the task's own loss
            return output
        counted = output.counted()
        if kept:
            distance = kept_distillation_loss(output.logits, *kept.of(batch, counted), counted, logit.temperature)
        else:
            with torch.no_grad():
                target = task.step(frozen.beside(student), batch).logits
            if output.numeric:
                distance = F.mse_loss(output.logits, target)
            else:
                distance = distillation_loss(output.logits, target, counted, logit.temperature)
        loss = (1 - logit.alpha) * output.loss + logit.alpha * distance
        return StepOutput(loss, output.logits, output.targets, output.metrics)

    return step
