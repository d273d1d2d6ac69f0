"""Drawing samples with a cached past against computing the receptive field again for each: same weights, same samples.

    python -m benchmarks.sound_generation [talk-wavenet]    (writes benchmarks/results/sound_generation.json)

Both run in ONNX Runtime on one thread and draw by the same noise. The second graph is the network over a window as long
as its receptive field, asked for its last step: what a generator without a cache has to do. Needs the trained recipe.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.core.files import write_json
from components.core.params import load_params
from components.core.task import GraphSpec, TrainedModel, load_task
from components.evaluation.hardware import describe
from components.export.precision import build_graphs
from components.export.torch_to_onnx import to_onnx
from components.inference.audio_generation import FREE
from components.inference.session import Session, open_session
from components.models.sound_generator import SoundGenerator, draw
from components.models.wavenet import WaveNet, dilation_cycles
from components.training.weights import load_model

ROUNDS = 5
CACHED_STEPS = (500, 4000)  # two lengths: the cost of a sample must not grow with them
WINDOW_STEPS = 200
WINDOW_START = 3000  # samples are there already: more than a receptive field, so that every window is a full one


class NextCode(nn.Module):
    """The codes so far (of a whole receptive field), noise, word and speaker -> the next code, drawn."""

    def __init__(self, model: SoundGenerator) -> None:
        super().__init__()
        self.model = model

    def forward(self, window_BT: Tensor, noise_B1: Tensor, word_B: Tensor, speaker_B: Tensor) -> Tensor:
        condition_BC = self.model.condition(word_B, speaker_B)
        skips_BTS = self.model.wavenet(self.model.code(window_BT), condition_BC)
        return draw(self.model._head(skips_BTS[:, -1]), noise_B1)


def main() -> None:
    """Time both ways in turns, compare every sample, tell what a receptive field costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="talk-wavenet")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sound_generation.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task(load_params().recipes[options.recipe].task)
    trained = load_model(task, Path("models") / options.recipe, Path("data/prepared") / options.recipe)
    result = {"recipe": options.recipe, "rounds": options.rounds, **compare(task, trained, options.rounds)}
    fields = receptive_fields(trained.config.width, trained.config.skip)
    write_json(options.out, {**result, "receptive_fields": fields, "hardware": describe()})


def compare(task: Any, trained: TrainedModel, rounds: int) -> dict[str, Any]:
    """Return samples a second of both ways, their ratio in each round, and how many samples were always the same."""
    model: Any = trained.module.eval()
    cached = open_session(build_graphs(task, trained, task.Options(), "fp32")["generate"].SerializeToString())
    window = open_session(to_onnx(_window_spec(model)).SerializeToString())
    noise_1T = np.random.default_rng(0).random((1, max(CACHED_STEPS)), np.float32)
    _cached(cached, noise_1T[:, :50])
    speeds: dict[str, list[float]] = {f"cached_{steps}": [] for steps in CACHED_STEPS} | {"recomputed": []}
    equal = WINDOW_STEPS
    for number in range(rounds):
        found: dict[str, np.ndarray] = {}
        for name, steps in ((f"cached_{steps}", steps) for steps in CACHED_STEPS):
            found[name], seconds = _cached(cached, noise_1T[:, :steps])
            speeds[name].append(steps / seconds)
        longest_T = found[f"cached_{max(CACHED_STEPS)}"]
        again_T, seconds = _recomputed(window, model, longest_T[:WINDOW_START], noise_1T[:, WINDOW_START:])
        speeds["recomputed"].append(WINDOW_STEPS / seconds)
        same = int((longest_T[WINDOW_START:][:WINDOW_STEPS] == again_T).sum())
        equal = min(equal, same)
        print(f"round {number + 1}: " + ", ".join(f"{k} {v[-1]:,.0f}/s" for k, v in speeds.items()), flush=True)
    ratios = np.array(speeds[f"cached_{max(CACHED_STEPS)}"]) / np.array(speeds["recomputed"])
    return {
        "samples_per_second": {name: round(float(np.median(values)), 1) for name, values in speeds.items()},
        "ratio": {"median": round(float(np.median(ratios)), 1), "least": round(float(ratios.min()), 1)},
        "equal_samples": [equal, WINDOW_STEPS],
        "receptive_field": model.wavenet.receptive_field,
    }


def _window_spec(model: Any) -> GraphSpec:
    window_BT = torch.full((1, model.wavenet.receptive_field), model.silence)
    example = (window_BT, torch.full((1, 1), 0.5), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    names = ["window", "noise", "word", "speaker"]
    return GraphSpec("next", NextCode(model).eval(), example, names, ["code"], (None, None, None, None))


def _cached(session: Session, noise_1T: np.ndarray) -> tuple[np.ndarray, float]:
    zero = np.zeros(1, np.int64)
    inputs = {"given": np.full(noise_1T.shape, FREE, np.int64), "noise": noise_1T, "word": zero, "speaker": zero}
    started = time.perf_counter()
    code_1T, _ = session.run(["code", "bits"], inputs)
    return code_1T[0], time.perf_counter() - started


def _recomputed(session: Session, model: Any, code_T: np.ndarray, noise_1T: np.ndarray) -> tuple[np.ndarray, float]:
    """Draw WINDOW_STEPS samples behind those given, each from the last window."""
    zero = np.zeros(1, np.int64)
    window_1T = code_T[None, -model.wavenet.receptive_field :]
    assert window_1T.shape[1] == model.wavenet.receptive_field
    codes = []
    started = time.perf_counter()
    for noise in noise_1T[0, :WINDOW_STEPS]:
        inputs = {"window": window_1T, "noise": noise.reshape(1, 1), "word": zero, "speaker": zero}
        (code_11,) = session.run(["code"], inputs)
        codes.append(int(code_11[0, 0]))
        window_1T = np.concatenate([window_1T[:, 1:], code_11], 1)
    return np.array(codes), time.perf_counter() - started


def receptive_fields(width: int, skip: int) -> list[dict[str, int]]:
    """Return layers, receptive field in samples and weights of WaveNets of these channels."""
    found = []
    for cycles, layers in ((1, 4), (1, 6), (1, 8), (1, 10), (2, 10), (3, 10)):
        stack = WaveNet(width, skip, dilation_cycles(cycles, layers))
        weights = sum(parameter.numel() for parameter in stack.parameters())
        found.append(
            {"layers": cycles * layers, "cycles": cycles, "samples": stack.receptive_field, "parameters": weights}
        )
    return found


if __name__ == "__main__":
    main()
