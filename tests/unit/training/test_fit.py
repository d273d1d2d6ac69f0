"""A fit that was killed goes on from its last epoch and ends with the very same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.core.task import StepOutput
from components.models.fast_ops import dropout, smoothed_cross_entropy
from components.training.config import TrainConfig
from components.training.fit import fit
from components.training.module import make_optimizer

BASE = {"epochs": 4, "learning_rate": 0.01, "tokens_per_batch": 40, "ema": 0.9, "warmup_steps": 3}


class Points:
    """Sixty points of two classes, as a task's dataset offers them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.y = rng.integers(0, 2, 60)
        self.x = (rng.standard_normal((60, 3)) + self.y[:, None]).astype(np.float32)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.x[index], int(self.y[index])

    def collate(self, examples: list[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.stack([x for x, _ in examples])), torch.tensor([y for _, y in examples])

    def lengths(self) -> np.ndarray:
        return np.stack([self.y + 3, np.arange(60) % 5], 1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(dropout(self.a(x).relu(), 0.3, self.training))


class Killed(Exception):
    """Stands for kill -9 between two steps."""


def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> StepOutput:
    logits = model(batch[0])
    return StepOutput(smoothed_cross_entropy(logits, batch[1], 0.0, -1), logits, batch[1])


def run(folder: Path, kill_at: int | None = None, **changes: Any) -> tuple[dict[str, Tensor], list[Any]]:
    calls = 0

    def counted(model: nn.Module, batch: Any) -> StepOutput:
        nonlocal calls
        calls += model.training
        if calls == kill_at:
            raise Killed
        return step(model, batch)

    model = Net()
    config = TrainConfig(**{**BASE, **changes})
    rows = fit(model, counted, Points(0), Points(1), config, folder)  # type: ignore[arg-type]
    return model.state_dict(), rows


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("kill_at", [2, 9, 14, 20])
def test_resumed_fit_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path, kill_at: int, ema: float) -> None:
    whole, curve = run(tmp_path / "whole", ema=ema)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at, ema=ema)
    resumed, resumed_curve = run(tmp_path / "killed", ema=ema)
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name
    assert curve == resumed_curve


def test_finished_fit_is_not_trained_again(tmp_path: Path) -> None:
    whole, curve = run(tmp_path)
    again, again_curve = run(tmp_path, kill_at=1)  # one step of training would raise
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert curve == again_curve


def test_broken_checkpoint_means_training_again(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "last.ckpt").write_bytes(b"half a file")
    again, _ = run(tmp_path / "broken")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_training_learns_and_its_curve_counts_steps(tmp_path: Path) -> None:
    _, rows = run(tmp_path, epochs=15)
    losses = [row["dev_loss"] for row in rows if "dev_loss" in row]
    assert losses[-1] < 0.9 * losses[0]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_a_finished_model_trains_with_dropout_again(tmp_path: Path) -> None:
    fresh, _ = run(tmp_path / "fresh")
    model = Net().eval()
    fit(model, step, Points(0), Points(1), TrainConfig(**BASE), tmp_path / "finished")  # type: ignore[arg-type]
    assert not model.training
    assert all(torch.equal(weight, fresh[name]) for name, weight in model.state_dict().items())


def test_looking_at_dev_less_often_than_an_epoch_ends_means_at_its_end(tmp_path: Path) -> None:
    _, rows = run(tmp_path / "seldom", dev_every=10_000)
    _, ends = run(tmp_path / "ends")
    assert [row for row in rows if "dev_loss" in row] == [row for row in ends if "dev_loss" in row]


def test_one_way_to_batch_is_demanded() -> None:
    with pytest.raises(ValueError, match="one of tokens_per_batch and batch_size"):
        TrainConfig(**{**BASE, "batch_size": 3})


def test_nesterov_looks_ahead_and_decays_matrices_alone() -> None:
    config = TrainConfig(epochs=1, learning_rate=0.1, batch_size=1, optimizer="nesterov", momentum=0.5, weight_decay=1)
    matrix, vector = torch.ones(1, 1, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = make_optimizer([matrix, vector], config)
    expected, velocity = [1.0, 1.0], [0.0, 0.0]
    for _ in range(3):
        optimizer.zero_grad()
        (2 * matrix.sum() + 3 * vector.sum()).backward()
        optimizer.step()
        slopes = [2 + expected[0], 3]
        velocity = [0.5 * v + slope for v, slope in zip(velocity, slopes, strict=True)]
        expected = [x - 0.1 * (s + 0.5 * v) for x, s, v in zip(expected, slopes, velocity, strict=True)]
    assert [matrix.item(), vector.item()] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("capabilities", "trained_in"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
    ],
)
def test_bf16_is_left_to_processors_that_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], trained_in: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    seen = set()

    def watched(model: nn.Module, batch: tuple[Tensor, Tensor]) -> StepOutput:
        found = step(model, batch)
        seen.add(found.logits.dtype)
        return found

    config = TrainConfig(**{**BASE, "epochs": 1, "precision": "bf16-mixed"})
    fit(Net(), watched, Points(0), Points(1), config, tmp_path)  # type: ignore[arg-type]
    assert seen == {trained_in}


class Mean(nn.Module):
    """The mean of some points, which nothing needs to be trained for."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(3))

    def solve(self, train: Points, seed: int) -> dict[str, float]:
        with torch.no_grad():
            self.mean.copy_(torch.from_numpy(train.x.mean(0)))
        return {"train_loss": float(seed)}


def test_a_model_with_a_closed_form_is_solved(tmp_path: Path) -> None:
    model, data = Mean(), Points(1)
    rows = fit(model, step, data, data, TrainConfig(**BASE, seed=7), tmp_path)  # type: ignore[arg-type]
    assert rows == [{"step": 1, "epoch": 1, "train_loss": 7.0}]
    np.testing.assert_allclose(model.mean.detach(), data.x.mean(0), rtol=1e-6)
