"""The proof fails closed: a graph that errs, even without changing an answer, is refused."""

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from components.core.errors import ProofError
from components.core.tolerance import tolerance_for
from components.export.initializers import all_initializers
from components.export.loop import build_graph
from components.export.parity import ComparingSession, _check_comparable, _relative_difference, prove
from components.tasks.translation import TASK, SearchOptions
from tests.unit.models.test_seq2seq import EOS, transformer

OPTIONS = SearchOptions(beam=2, max_length=8)
Exported = tuple[list[Any], onnx.ModelProto]


class Sentences:
    """Sixteen inputs of one to eight words, as a task's dataset offers them."""

    def __len__(self) -> int:
        return 16

    def lengths(self) -> np.ndarray:
        return np.array([[i % 8 + 1, i % 8 + 1] for i in range(16)])

    def inputs(self) -> list[str]:
        return [" ".join(f"w{(i * 7 + j) % 20}" for j in range(i % 8 + 1)) for i in range(16)]


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    for name, size in (("source", 30), ("target", 40)):
        words = [*special, *(f"w{i}" for i in range(size - 4))]
        (tmp_path / f"{name}.txt").write_text("".join(f"{word}\n" for word in words))
    return tmp_path


@pytest.fixture(scope="module")
def exported() -> Exported:
    """A small Transformer's search and its graph, made once: it takes ten seconds."""
    torch.manual_seed(0)
    specs = TASK.graphs(transformer().eval(), OPTIONS)
    return specs, build_graph(specs[0])


def proof(exported: Exported, damage: float, assets: Path) -> dict[str, object]:
    specs, graph = exported[0], copy.deepcopy(exported[1])
    for tensor in all_initializers(graph):
        if damage and tensor.name.endswith("encoder.0.ffn.up.bias"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(damage), tensor.name))
            break
    else:
        assert not damage, "nothing was damaged"
    tolerance = tolerance_for("fp32", {}, "test")
    return prove(TASK, specs, {"translate": graph}, Sentences(), assets, OPTIONS.model_dump(), tolerance)  # type: ignore[arg-type]


def test_equal_graph_passes_with_its_figures(exported: Exported, assets: Path) -> None:
    measured = proof(exported, 0.0, assets)
    assert measured["agreement"] == 1.0
    assert 0 <= measured["max_abs_diff"] < 1e-3  # type: ignore[operator]
    assert measured["answers_compared"] == 3 * (1 + 3 + 16)


def test_small_error_that_changes_no_answer_is_found(exported: Exported, assets: Path) -> None:
    with pytest.raises(ProofError, match="differ by"):
        proof(exported, 0.02, assets)


def test_wrong_answers_are_found(exported: Exported, assets: Path) -> None:
    with pytest.raises(ProofError):
        proof(exported, 5.0, assets)


@pytest.mark.parametrize(("factor", "passes"), [(1.0, True), (1.01, True), (1.5, False), (float("nan"), False)])
def test_numbers_an_int8_graph_answers_with_may_differ_by_a_share_of_their_spread(factor: float, passes: bool) -> None:
    rng = np.random.default_rng(0)
    pairs = [(factor * values, values) for values in (rng.normal(5, 1, (3, 4)), rng.normal(5, 1, (2, 7)))]
    difference = _relative_difference(pairs)
    assert (difference <= tolerance_for("int8", {}, "test").relative_difference) == passes


def test_nan_is_never_within_tolerance(exported: Exported) -> None:
    (spec,), graph = exported[0], copy.deepcopy(exported[1])
    for tensor in all_initializers(graph):
        if tensor.name.endswith("decoder.1.ffn.down.bias") and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.full(32, np.nan, np.float32), tensor.name))
    session = ComparingSession(spec, graph)
    session.run(None, {"source": np.array([[5, 6, EOS]])})
    assert session.equal_rows == 0 or session.max_abs_diff == float("inf")


class OtherOrder:
    """A session whose two hypotheses of each sentence stand in the other order, as a near tie may rank them."""

    def __init__(self, session: Any, names: list[str], state: list[str], lose: bool) -> None:
        self._session, self._names, self._state, self._lose = session, names, state, lose
        self.hypotheses = 0

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        got = dict(zip(self._names, self._session.run(outputs, inputs), strict=True))
        count = len(got["tokens"])
        self.hypotheses += sum((got["tokens"][i] != got["tokens"][i + 1]).any() for i in range(0, count, 2))
        for name in self._state:
            if name in ("finished", "scores", "lengths"):
                got[name] = got[name][:, ::-1]
            elif name not in ("position", "row", "answer"):
                got[name] = got[name].reshape(count // 2, 2, *got[name].shape[1:])[:, ::-1].reshape(got[name].shape)
        if self._lose:
            got["scores"] = np.full_like(got["scores"], np.nan)
        return list(got.values())


@pytest.mark.parametrize("lose", [False, True])
def test_hypotheses_that_are_not_the_answer_may_be_ranked_otherwise_but_have_numbers(
    exported: Exported, lose: bool
) -> None:
    (spec,), graph = exported
    session = ComparingSession(spec, graph)
    session._session = other = OtherOrder(session._session, session._names, spec.state, lose)  # type: ignore[assignment]
    for first in range(5, 12):
        session.run(None, {"source": np.array([[first, 6, EOS]])})
    assert other.hypotheses > 0, "nothing was left to rank"
    assert session.equal_rows == session.rows == 7
    assert (session.max_abs_diff or 0.0) == (float("inf") if lose else 0.0)


@pytest.mark.parametrize(
    ("got", "expected", "comparable"),
    [
        (np.zeros((3, 5), np.int64), np.zeros((3, 4), np.int64), True),  # another word may end a sentence
        (np.zeros((3, 4), np.float16), np.zeros((3, 4), np.float32), True),
        (np.zeros((2, 4), np.int64), np.zeros((3, 4), np.int64), False),
        (np.zeros((3, 4, 2), np.int64), np.zeros((3, 4, 5), np.int64), False),
        (np.zeros(3, np.int64), np.zeros((3, 1), np.int64), False),
        (np.zeros((3, 4), np.int64), np.zeros((3, 4), np.float32), False),
        (np.full((3, 4), np.nan, np.float32), np.zeros((3, 4), np.float32), False),
        (np.full((3, 4), np.inf, np.float32), np.full((3, 4), np.inf, np.float32), True),
    ],
)
def test_what_no_tolerance_is_for_is_refused(got: np.ndarray, expected: np.ndarray, comparable: bool) -> None:
    with nullcontext() if comparable else pytest.raises(ProofError, match="answer: the graph gives"):
        _check_comparable("answer", got, expected)
