"""Structured pruning: whole heads and neurons are removed, so that the network is really smaller, then fine-tuned.

Criteria: weight magnitude (Li et al. 2017), or the first-order Taylor estimate of the loss a removal causes
(Molchanov et al. 2019). Units compete across layers of the same kind; every layer keeps at least one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from components.compression.context import Context
from components.compression.distill import Logit, distilling_step, with_answers
from components.core.params import Config, parse_config
from components.core.task import TrainedModel
from components.models.pruning_groups import Member, PruningGroup


class Prune(Config):
    """Fractions of each kind of unit to remove, how to rank them, and the fine-tuning that follows."""

    remove: dict[str, float] = Field(description="kind of unit (heads, ffn) -> fraction to remove")
    criterion: Literal["magnitude", "taylor"] = "taylor"
    batches: int = Field(30, gt=0, description="batches behind a Taylor estimate")
    sequence: dict[str, Any] | None = Field(None, description="the task's Options with which the teacher answers")
    logit: Logit | None = None
    train: dict[str, Any] = {}

    def apply(self, model: TrainedModel, context: Context) -> TrainedModel:
        """Return a smaller copy of `model`, fine-tuned to the recipe's teacher."""
        groups: list[PruningGroup] = model.module.pruning_groups()  # type: ignore[operator]
        importance = self._importance(model, groups, context)
        kept = choose(groups, importance, self.remove)
        pruned = shrink(model, groups, kept, context)
        removed = sum(g.units for g in groups) - sum(len(rows) for rows in kept)
        print(f"pruned {removed} units: {model.parameters():,} -> {pruned.parameters():,} parameters", flush=True)
        data = with_answers(context.teacher, context, self.sequence)
        context.fit(pruned.module, distilling_step(context.task, context.teacher, self.logit), data, self.train)
        return pruned

    def _importance(self, model: TrainedModel, groups: Sequence[PruningGroup], context: Context) -> list[Tensor]:
        parameters = dict(model.module.named_parameters())
        if self.criterion == "magnitude":
            return [_per_unit(group, {n: p.detach() ** 2 for n, p in parameters.items()}) for group in groups]
        module = copy.deepcopy(model.module).eval()
        totals = [torch.zeros(group.units) for group in groups]
        for _, batch in zip(range(self.batches), context.batches(context.train), strict=False):
            module.zero_grad()
            context.task.step(module, batch).loss.backward()
            slopes = {n: p.detach() * p.grad for n, p in module.named_parameters() if p.grad is not None}
            for total, group in zip(totals, groups, strict=True):
                total += _per_unit(group, slopes) ** 2
        return totals


def _per_unit(group: PruningGroup, values: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of a value over all weights of each unit, (units,)."""
    total = torch.zeros(group.units)
    for member in group.members:
        total += _by_unit(values[member.parameter], member, group.units).flatten(2).sum((0, 2))
    return total


def _by_unit(tensor: Tensor, member: Member, units: int) -> Tensor:
    """Return a view (repeats, units, rest) of a parameter: its units along one axis."""
    moved = tensor.movedim(member.axis, 0)
    return moved.reshape(member.repeats, units, -1)


def choose(
    groups: Sequence[PruningGroup], importance: Sequence[Tensor], remove: Mapping[str, float]
) -> list[list[int]]:
    """Return the units to keep in each group, in their order.

    Raises:
        ValueError: a kind that no group has, or a fraction outside [0, 1).
    """
    known = {group.kind for group in groups}
    for kind, fraction in remove.items():
        if kind not in known or not 0 <= fraction < 1:
            raise ValueError(f"prune.remove.{kind}: {fraction}; kinds here are {sorted(known)}, fractions in [0, 1)")
    kept = [list(range(group.units)) for group in groups]
    for kind, fraction in remove.items():
        mine = [i for i, group in enumerate(groups) if group.kind == kind]
        ranked = sorted((float(importance[i][unit]), i, unit) for i in mine for unit in kept[i])
        for _, i, unit in ranked[: round(fraction * len(ranked))]:
            if len(kept[i]) > 1:
                kept[i].remove(unit)
    return kept


def shrink(
    model: TrainedModel, groups: Sequence[PruningGroup], kept: Sequence[Sequence[int]], context: Context
) -> TrainedModel:
    """Return a new, smaller model that holds the kept units' weights."""
    config = model.config.explicit()
    counts = {group.key: list(getattr(config, group.key)) for group in groups}
    weights = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    for group, rows in zip(groups, kept, strict=True):
        counts[group.key][group.layer] = len(rows)
        for member in group.members:
            weights[member.parameter] = _select(weights[member.parameter], member, group.units, rows)
    smaller = parse_config(context.task.Model, {**config.model_dump(), **counts}, "prune")
    module = context.task.build_model(smaller, context.root)
    module.load_state_dict(weights)
    return TrainedModel(smaller, module)


def _select(tensor: Tensor, member: Member, units: int, rows: Sequence[int]) -> Tensor:
    moved = tensor.movedim(member.axis, 0)
    by_unit = moved.reshape(member.repeats, units, -1, *moved.shape[1:])
    return by_unit[:, list(rows)].reshape(-1, *moved.shape[1:]).movedim(0, member.axis).contiguous()
