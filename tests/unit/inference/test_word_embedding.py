"""Questions about words: what is asked, what is answered, what is refused."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from components.core.errors import ModelpressError
from components.core.task import GraphSpec
from components.export.torch_session import TorchSession
from components.inference.word_embedding import WordEmbeddingPredictor
from components.models.word_vectors import NearestWords

VECTORS = {"king": (1, 1, 0), "queen": (1, -1, 0), "man": (0, 1, 0.2), "woman": (0, -1, 0.2), "don't": (-1, 0, 0)}


@pytest.fixture
def predictor(tmp_path: Path) -> WordEmbeddingPredictor:
    (tmp_path / "words.txt").write_text("".join(f"{word}\n" for word in VECTORS), encoding="utf-8")
    module = NearestWords(torch.tensor(list(VECTORS.values()), dtype=torch.float32), 2)
    example = (torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2))
    outputs = ["neighbour", "similarity", "given"]
    spec = GraphSpec("nearest", module, example, ["words", "weights"], outputs, ())
    return WordEmbeddingPredictor({"nearest": TorchSession(spec)}, tmp_path, {})


def test_a_word_a_sum_and_a_pair_are_answered_in_one_call(predictor: WordEmbeddingPredictor) -> None:
    word, total, pair = predictor.predict(["King", "king - man + woman", "king ~ don’t"])
    assert len(word["nearest"]) == len(word["similarity"]) == 2
    assert "king" not in word["nearest"]
    assert total["nearest"][0] == "queen"
    assert pair == {"similarity": pytest.approx(-(0.5**0.5), abs=1e-4)}


def test_answers_do_not_depend_on_what_is_asked_beside_them(predictor: WordEmbeddingPredictor) -> None:
    questions = ["king", "king - man + woman", "king ~ man", "man + woman - king + queen"]
    assert predictor.predict(questions * 40) == [predictor.predict([text])[0] for text in questions] * 40
    assert predictor.predict([]) == []


def test_similarities_are_all_cosines(predictor: WordEmbeddingPredictor) -> None:
    unit = np.array([VECTORS[word] for word in ("man", "king")], np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    np.testing.assert_allclose(predictor.similarities(["man", "king"]), unit @ unit.T, atol=1e-6)


@pytest.mark.parametrize("text", ["", "king +", "king ~", "king ~ man ~ woman", "4", "king man", "king * man"])
def test_what_is_no_question_is_refused_with_an_example(predictor: WordEmbeddingPredictor, text: str) -> None:
    with pytest.raises(ModelpressError, match="give a word, a sum"):
        predictor.predict([text])


@pytest.mark.parametrize("text", ["king - king", "king - man + man - king"])
def test_words_that_cancel_out_are_refused(predictor: WordEmbeddingPredictor, text: str) -> None:
    with pytest.raises(ModelpressError, match="cancel out"):
        predictor.predict([text])
    assert predictor.predict(["king - king + man"])[0]["nearest"]


@pytest.mark.parametrize("text", [f"{' ' * 16_000}1", f"king{' ' * 16_000}- man +{' ' * 16_000}woman"])
def test_many_blanks_hold_nobody_up(predictor: WordEmbeddingPredictor, text: str) -> None:
    started = time.process_time()
    with contextlib.suppress(ModelpressError):
        assert predictor.predict([text])[0]["nearest"][0] == "queen"
    assert time.process_time() - started < 2  # the square of 16,000 blanks took 9 s and more


def test_an_unknown_word_and_too_long_a_sum_are_refused(predictor: WordEmbeddingPredictor) -> None:
    with pytest.raises(ModelpressError, match="'xyzzy': not one of the 5 words learnt"):
        predictor.predict(["king + xyzzy"])
    with pytest.raises(ModelpressError, match="17 words; give at most 16"):
        predictor.predict([" + ".join(["king"] * 17)])
