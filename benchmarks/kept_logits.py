"""Distillation steps that ask the teacher, and that look up what it said (`logit: {keep: K}`).

    python -m benchmarks.kept_logits STUDENT     (a minute or two; writes benchmarks/results/kept_logits-STUDENT.json)

Both train the same fresh student on the same batches, in turns; the ratio is the median over batches. Needs the
student's teacher and its prepared data: `modelpress run RECIPE` makes them.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from components.core.files import write_json

WARM = 4  # batches before the first that counts


def main() -> None:
    """Time both ways, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", help="one whose first pass is a distillation with logit.keep")
    parser.add_argument("--batches", type=int, default=60)
    options = parser.parse_args()
    from components.evaluation.hardware import describe

    result = {"student": options.student, **measure(options.student, options.batches), "hardware": describe()}
    write_json(Path("benchmarks/results") / f"kept_logits-{options.student}.json", result)
    print(json.dumps(result, indent=2))


def measure(name: str, count: int) -> dict[str, Any]:
    """Return milliseconds a step, both ways, and how much of the teacher's probability is kept."""
    import torch

    from components.compression.distill import Distill, distilling_step
    from components.compression.kept_logits import kept_logits
    from components.compression.passes import parse_passes
    from components.core.config import parse_config
    from components.core.params import load_params
    from components.core.task import load_task
    from components.core.threads import threads
    from components.training.config import TrainConfig
    from components.training.fit import precision_here
    from components.training.kept_memory import keep_freed_memory
    from components.training.module import batches, make_optimizer
    from components.training.weights import load_model

    params = load_params()
    recipe = params.recipes[params.students[name].recipe]
    (distill, *_) = parse_passes(params.students[name].passes, f"students.{name}.passes")
    if not isinstance(distill, Distill) or distill.logit is None or distill.logit.keep is None:
        raise SystemExit(f"students.{name}: its first pass is no distillation with logit.keep")
    torch.set_num_threads(threads())
    keep_freed_memory()
    task, root = load_task(recipe.task), Path("data/prepared") / params.students[name].recipe
    teacher = load_model(task, Path("models") / params.students[name].recipe, root)
    config = TrainConfig(**{**recipe.train, **distill.train})
    drawn = [batch for batch, _ in zip(batches(task.dataset(root, "train"), config, 0), range(count), strict=False)]
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=precision_here(config.precision) == "bf16-mixed")
    with tempfile.TemporaryDirectory() as folder, bf16:
        module, keep, temperature = teacher.module.eval(), distill.logit.keep, distill.logit.temperature
        kept = kept_logits(task.step, module, lambda: drawn, keep, temperature, lambda digest: Path(folder) / digest)
    steps = {
        "asking": distilling_step(task, teacher, distill.logit),
        "looking_up": distilling_step(task, teacher, distill.logit, kept),
    }
    model = parse_config(task.Model, teacher.config.changed(distill.model), "distill.model")
    student = task.build_model(model, root).train()
    students = {way: copy.deepcopy(student) for way in steps}
    optimizers = {way: make_optimizer(list(student.parameters()), config) for way, student in students.items()}
    times: dict[str, list[float]] = {way: [] for way in steps}
    for number, batch in enumerate(drawn):
        for way in sorted(steps, reverse=bool(number % 2)):
            started = time.perf_counter()
            with bf16:
                loss = steps[way](students[way], batch).loss
            optimizers[way].zero_grad()
            loss.backward()
            optimizers[way].step()
            times[way].append(1e3 * (time.perf_counter() - started))
    ratios = [asking / looking_up for asking, looking_up in zip(*(times[way][WARM:] for way in steps), strict=True)]
    share = float(kept.log_probabilities.float().exp().sum(1).mean())
    return {
        "kept": keep,
        "share": round(share, 4),
        "batches": len(ratios),
        **{f"{way}_ms": round(statistics.median(found[WARM:]), 1) for way, found in times.items()},
        "faster": round(statistics.median(ratios), 2),
        "faster_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


if __name__ == "__main__":
    main()
