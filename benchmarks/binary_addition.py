"""The seven published binary-addition settings and ours, five seeds each: error, gradients, share right by step.

    python -m benchmarks.binary_addition    (writes benchmarks/results/binary_addition.json, docs/binary-addition.svg)

The settings are the recipes of params.yaml; model, loss and optimizer are the pipeline's. The seeds run side by side as
one batched model (torch.func.vmap), which the pipeline's one-model stages can't.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, stack_module_state, vmap

from components.core.config import parse_config
from components.core.files import write_json, write_text
from components.core.params import load_params
from components.core.task import load_task
from components.training.config import TrainConfig
from components.training.module import make_optimizer

SEEDS = 5
EVERY = 100  # steps between two rows
LEAST_DRAWN = 1e-6
LEARNT = 99.0  # per cent of 500 sums that are never trained on exactly right
PUBLISHED = {
    "addition-normal": "about 6,000",
    "addition-xavier": "about 4,000",
    "addition-relu": "never (explodes)",
    "addition-tanh": "never (explodes)",
    "addition-wide": "",
    "addition-slow": "",
    "addition-quick": "about 3,000",
}
OURS = ("addition-relu-clipped", "addition-tanh-clipped", "addition-signed")


class Loss(nn.Module):
    """A model as its loss on a batch, which is what vmap differentiates."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, bits: Tensor, sums: Tensor) -> Tensor:
        return load_task("binary_addition").step(self.model, (bits, sums)).loss


def main() -> None:
    """Run every setting, write the rows and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/binary_addition.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/binary-addition.svg"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {}
    for name in (*PUBLISHED, *OURS):
        started = time.monotonic()
        settings[name] = {"published": PUBLISHED.get(name), **study(name, options.steps)}
        learnt = settings[name]["learnt_at"]
        print(f"{name}: learnt at {learnt} ({time.monotonic() - started:.0f} s)", flush=True)
    write_json(options.out, {"seeds": SEEDS, "steps": options.steps, "settings": settings})
    write_text(options.picture, picture(settings))


def study(recipe: str, steps: int) -> dict[str, Any]:
    """Train a recipe's model SEEDS times, an example a step; return rows and the steps at which each had learnt."""
    params, task = load_params(), load_task("binary_addition")
    block = params.recipes[recipe]
    train = parse_config(TrainConfig, block.train, recipe)
    models = [_model(task, block.model, seed) for seed in range(SEEDS)]
    weights, _ = stack_module_state(models)  # type: ignore[arg-type]
    step = vmap(grad_and_value(lambda w, bits, sums: functional_call(models[0], w, (bits, sums))))
    optimizer = make_optimizer(list(weights.values()), train)
    draws = [torch.Generator().manual_seed(100 + seed) for seed in range(SEEDS)]
    pairs = torch.cartesian_prod(torch.arange(128), torch.arange(128))
    unseen, seen = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(99))].split([500, 15_884])
    asked = _bits(unseen.expand(SEEDS, -1, -1))
    right = vmap(lambda w, bits, sums: _exact(models[0], w, bits, sums))
    reach = vmap(lambda w, bits: _reach(models[0], w, bits))
    rows, sums_so_far, highest = [], torch.zeros(2, SEEDS), torch.zeros(SEEDS)
    for number in range(1, steps + 1):
        drawn = torch.stack([seen[torch.randint(len(seen), (1,), generator=draw)] for draw in draws])
        gradients, losses = step(weights, *_bits(drawn))
        norms = torch.stack([g.flatten(1).pow(2).sum(1) for g in gradients.values()]).sum(0).sqrt()
        shrink = (train.clip / norms).clamp(max=1) if train.clip else torch.ones(SEEDS)
        for name, weight in weights.items():
            weight.grad = gradients[name] * shrink.view(-1, *[1] * (weight.dim() - 1))
        optimizer.step()
        sums_so_far += torch.stack([losses.detach(), norms])
        highest = torch.maximum(highest, norms)  # a mean over many steps does not show what explodes in one
        if number % EVERY == 0 or (number < 1000 and number % 20 == 0):
            size = EVERY if number > 1000 else 20
            with torch.no_grad():
                means = (sums_so_far / size).tolist()
                reached = reach(weights, asked[0][:, :64]).tolist()
                rows.append([number, *means, highest.tolist(), reached, right(weights, *asked).tolist()])
            sums_so_far.zero_()
            highest.zero_()
    return {"reached_at": _reached_at(rows), "learnt_at": _learnt_at(rows), "rows": [_row(row) for row in rows]}


def _model(task: Any, block: dict[str, Any], seed: int) -> Loss:
    torch.manual_seed(seed)
    return Loss(task.build_model(parse_config(task.Model, block, "model"), Path()))


def _bits(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return bits uint8 (SEEDS, N, 8, 2) of pairs int64 (SEEDS, N, 2), and the sums' bits int64 (SEEDS, N, 8)."""
    places = torch.arange(8)
    bits = (pairs[:, :, None] >> places[:, None]) & 1
    return bits.to(torch.uint8), (pairs.sum(-1, keepdim=True) >> places) & 1


def _logits(model: Loss, weights: dict[str, Tensor], bits: Tensor) -> Tensor:
    plain = {name.removeprefix("model."): value for name, value in weights.items()}
    logits: Tensor = functional_call(model.model, plain, (bits,))
    return logits


def _reach(model: Loss, weights: dict[str, Tensor], bits: Tensor) -> Tensor:
    """Return how much the last place's logit moves with the first place's bits, over how much with its own.

    Far below one the gradient vanishes on its way back through time, far above one it explodes (Bengio et al. 1994).
    """
    moves_NT = grad(lambda b: _logits(model, weights, b)[:, -1].sum())(bits.float()).norm(dim=-1)
    return moves_NT[:, 0].mean() / moves_NT[:, -1].mean().clamp(min=1e-9)


def _exact(model: Loss, weights: dict[str, Tensor], bits: Tensor, sums: Tensor) -> Tensor:
    logits = _logits(model, weights, bits)
    return 100 * ((logits > 0) == (sums > 0)).all(-1).float().mean()


def _reached_at(rows: list[list[Any]]) -> list[int | None]:
    """Return, for each seed, the first step at which it is right, whatever it forgets afterwards; or None."""
    return [next((number for number, *_, exact in rows if exact[seed] >= LEARNT), None) for seed in range(SEEDS)]


def _learnt_at(rows: list[list[Any]]) -> list[int | None]:
    """Return, for each seed, the first step from which on it stays right, or None."""
    found: list[int | None] = []
    for seed in range(SEEDS):
        step = None
        for number, *_, exact in reversed(rows):
            if not exact[seed] >= LEARNT:
                break
            step = number
        found.append(step)
    return found


def _row(row: list[Any]) -> dict[str, Any]:
    """Return medians over the seeds; of the gradient's norm also a single step's largest, where something explodes."""
    number, losses, norms, highest, reach, exact = row
    middle = SEEDS // 2
    return {
        "step": number,
        "error": round(sorted(losses)[middle], 5),
        "gradient_norm": round(sorted(norms)[middle], 5),
        "largest_gradient_norm": round(max(highest), 5),
        "reach": float(f"{sorted(reach)[middle]:.3g}"),
        "exact": sorted(exact)[middle],
    }


def picture(settings: dict[str, Any]) -> str:
    """Return error, gradient norm and the first bits' reach by step of every setting, small charts in a grid."""
    from components.evaluation.charts.axes import picture as svg
    from components.evaluation.charts.curves import STYLE
    from components.evaluation.charts.frontier import standalone

    width, height, columns = 300, 170, 5
    marks = []
    for index, (name, setting) in enumerate(settings.items()):
        x, y = index % columns * width, index // columns * 3 * height
        marks.append(_chart(setting["rows"], ("error",), f"{name}: error", x, y, width, height))
        keys = ("gradient_norm", "largest_gradient_norm")
        marks.append(_chart(setting["rows"], keys, f"{name}: gradient norm", x, y + height, width, height))
        marks.append(_chart(setting["rows"], ("reach",), f"{name}: reach", x, y + 2 * height, width, height))
    rows = -(-len(settings) // columns)
    drawing = svg(
        columns * width, rows * 3 * height, [f"<style>{STYLE}</style>", *marks], "error, gradient norm, reach by step"
    )
    return standalone(drawing)


def _chart(
    rows: list[dict[str, Any]], keys: tuple[str, ...], title: str, left: int, top: int, width: int, height: int
) -> str:
    from components.evaluation.charts.axes import Scale, grid, polyline, text

    values = [max(row[key], LEAST_DRAWN) for row in rows for key in keys]
    x = Scale(0, rows[-1]["step"], left + 48, left + width - 14)
    y = Scale(min(values) / 1.5, max(values) * 1.5, top + height - 26, top + 26, logarithmic=True)
    marks = [text(left + 12, top + 14, title, "tick"), *grid(x, y, x.ticks(3), y.ticks(4))]
    for kind, key in zip(("s1", "s0"), keys, strict=False):
        points = [(x(row["step"]), y(max(row[key], LEAST_DRAWN))) for row in rows]
        marks.append(polyline(points, f"curve {kind}"))
    return "\n".join(marks)


if __name__ == "__main__":
    main()
