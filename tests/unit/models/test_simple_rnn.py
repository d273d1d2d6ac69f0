"""The bit-by-bit network and its task: known weights add, gradients are what they are said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.core.task import load_task
from components.inference.binary_addition import bits_of, number_of
from components.models.simple_rnn import SimpleRNN

TASK = load_task("binary_addition")
SPLIT = {"bits": 8, "train": 300, "dev": 50, "test": 60, "seed": 3}


def full_adder() -> SimpleRNN:
    """Return weights that add: with ReLU a state can hold how many of (a, b, carry) are one."""
    model = SimpleRNN(3, "relu", "xavier", bias=True, signed=False)
    # z1 = sum, z2 = relu(sum - 1), z3 = relu(sum - 2); carry = z2 - z3; the sum's bit = z1 - 2 z2 + 2 z3
    with torch.no_grad():
        model.input.weight.copy_(torch.ones(3, 2))
        model.input.bias.copy_(torch.tensor([0.0, -1.0, -2.0]))
        model.recurrent.weight.copy_(torch.tensor([[0.0, 1.0, -1.0]]).expand(3, 3))
        model.output.weight.copy_(torch.tensor([[1.0, -2.0, 2.0]]))
        model.output.bias.copy_(torch.tensor([-0.5]))
    return model


@given(st.lists(st.tuples(st.integers(0, 2**70), st.integers(0, 2**70)), min_size=1, max_size=20))
def test_network_with_an_adders_weights_adds_numbers_of_any_length(pairs: list[tuple[int, int]]) -> None:
    logits_BT = full_adder()(torch.from_numpy(bits_of(pairs)))
    assert [number_of(row) for row in (logits_BT > 0).numpy().astype(np.uint8)] == [a + b for a, b in pairs]


@given(st.integers(0, 2**100))
def test_bits_of_a_number_give_it_back(number: int) -> None:
    assert number_of(bits_of([(number, 0)])[0, :, 0]) == number


def test_held_out_pairs_never_occur_in_train(tmp_path: Path) -> None:
    TASK.prepare(Path("raw/sums"), tmp_path, SPLIT, TASK.Data())
    parts = {name: TASK.dataset(tmp_path, name) for name in ("train", "dev", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 300, "dev": 50, "test": 60}
    seen = set(parts["train"].pairs)
    assert not seen & set(parts["dev"].pairs)
    assert not seen & set(parts["test"].pairs)
    assert len(set(parts["dev"].pairs) | set(parts["test"].pairs)) == 110


def test_test_split_has_its_own_number_of_bits_when_one_is_given(tmp_path: Path) -> None:
    TASK.prepare(Path("raw/sums"), tmp_path, {**SPLIT, "test_bits": 65}, TASK.Data())
    dev, test = TASK.dataset(tmp_path, "dev"), TASK.dataset(tmp_path, "test")
    bits, sums = test.collate(list(test.pairs))
    assert (bits.shape, dev.bits) == ((60, 65, 2), 65)
    assert [str(number_of(row.astype(np.uint8))) for row in sums.numpy()] == test.references()
    assert {max(max(pair) for pair in part.pairs).bit_length() for part in (dev, test)} == {64}


def test_longer_pairs_that_train_has_too_are_left_out(tmp_path: Path) -> None:
    TASK.prepare(Path("raw/sums"), tmp_path, {**SPLIT, "bits": 4, "test_bits": 5, "train": 100}, TASK.Data())
    seen, dev, test = (set(TASK.dataset(tmp_path, name).pairs) for name in ("train", "dev", "test"))
    assert not seen & (dev | test)
    assert len(dev | test) == 110
    with pytest.raises(ModelpressError, match="110 pairs for dev and test, at most 32"):
        TASK.prepare(Path("raw/sums"), tmp_path, {**SPLIT, "bits": 4}, TASK.Data())


@pytest.mark.parametrize("test_bits", [4, 8])
def test_bits_of_test_that_are_no_more_than_those_of_train_are_refused(tmp_path: Path, test_bits: int) -> None:
    with pytest.raises(ModelpressError, match="test_bits"):
        TASK.prepare(Path("raw/sums"), tmp_path, {**SPLIT, "test_bits": test_bits}, TASK.Data())


def test_output_slope_is_the_squared_error_with_the_slope_taken_at_the_output() -> None:
    config = TASK.Model(loss="output_slope", activation="tanh")
    model = TASK.build_model(config, Path())
    bits, sums = torch.ones(1, 1, 2, dtype=torch.uint8), torch.zeros(1, 1, dtype=torch.int64)
    logit = model(bits)
    y = torch.sigmoid(logit)
    (expected,) = torch.autograd.grad(logit, model.output.weight)
    loss = TASK.step(model, (bits, sums)).loss
    loss.backward()
    slope = float(y * torch.sigmoid(y) * (1 - torch.sigmoid(y)))
    assert float(loss.detach()) == pytest.approx(float(y**2 / 2))
    torch.testing.assert_close(model.output.weight.grad, expected * slope)


def test_predictor_refuses_what_is_no_sum() -> None:
    from components.inference.binary_addition import AdditionPredictor

    predictor = AdditionPredictor({}, Path(), {})
    for text in ("", "1 - 2", "1 + x", "-1 + 2", "1.5 + 2", f"{2**1024} + 1"):
        with pytest.raises(ModelpressError):
            predictor.predict([text])
    assert predictor.predict([]) == []


def test_split_that_asks_for_more_pairs_than_there_are_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelpressError, match=r"datasets\.sums\.split: 70 pairs for dev and test, at most 32"):
        TASK.prepare(Path("raw/sums"), tmp_path, {**SPLIT, "bits": 4, "dev": 40, "test": 30}, TASK.Data())


def test_train_is_as_long_as_asked_for_when_half_of_all_pairs_are_held_out(tmp_path: Path) -> None:
    TASK.prepare(Path("raw/sums"), tmp_path, {**SPLIT, "bits": 4, "dev": 16, "test": 16, "train": 500}, TASK.Data())
    assert len(TASK.dataset(tmp_path, "train")) == 500
