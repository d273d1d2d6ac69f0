from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.data.readers import english_texts
from components.inference.masked_language_model import (
    BATCH,
    FIRST_WORD,
    LONGEST,
    MASK,
    MaskedLanguageModelPredictor,
    words,
)
from components.inference.tokenizers import PAD, SPECIAL_TOKENS, UNK

WORDS = ["the", "captain", "ship", "of", "went", "don't"]


class LeftNeighbour:
    """A graph that guesses the word left of a blank, then the first word; of what is asked it says the place."""

    def __init__(self) -> None:
        self.given: list[dict[str, np.ndarray]] = []

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        assert outputs == ["word", "probability", "asked_probability"]
        self.given.append(dict(inputs))
        left_BN = np.take_along_axis(inputs["ids"], np.maximum(inputs["blank"] - 1, 0), 1)
        word_BNK = np.stack([left_BN, np.full_like(left_BN, FIRST_WORD)], -1)
        probability_BNK = np.broadcast_to(np.array([0.123456, 0.01], np.float32), word_BNK.shape)
        return [word_BNK, probability_BNK, inputs["blank"].astype(np.float32) / 100]


@pytest.fixture(scope="module")
def session() -> LeftNeighbour:
    return LeftNeighbour()


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory, session: LeftNeighbour) -> MaskedLanguageModelPredictor:
    folder = tmp_path_factory.mktemp("words")
    lines = [*SPECIAL_TOKENS, "<mask>", *WORDS]
    (folder / "words.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return MaskedLanguageModelPredictor({"fill": session}, folder, {"guesses": 2})


def number(word: str) -> int:
    return FIRST_WORD + WORDS.index(word)


def test_blanks_are_filled_in_the_text_as_it_was_written(predictor: MaskedLanguageModelPredictor) -> None:
    (answer,) = predictor.predict(["The CAPTAIN, ___ of the [Ship]!"])
    assert answer == {
        "filled": "The CAPTAIN, captain of the the!",
        "blanks": [{"captain": 0.123, "the": 0.01}, {"the": 0.01}],  # guessed twice, the later one stays
        "asked": [None, 0.05],
    }


def test_graph_gets_ids_places_and_words_asked_about(
    predictor: MaskedLanguageModelPredictor, session: LeftNeighbour
) -> None:
    predictor.predict(["the ____ Don’t zebra [ship] [of]", "___"])
    given = session.given[-1]
    assert given["ids"].tolist() == [[number("the"), MASK, number("don't"), UNK, MASK, MASK], [MASK, *[PAD] * 5]]
    assert given["blank"].tolist() == [[1, 4, 5], [0, 0, 0]]
    assert given["asked"].tolist() == [[0, number("ship"), number("of")], [0, 0, 0]]
    assert all(value.dtype == np.int64 for value in given.values())


def test_answers_keep_their_order_and_count_their_blanks_beyond_a_batch(
    predictor: MaskedLanguageModelPredictor,
) -> None:
    inputs = [f"{'of ' * (i % 5)}[ship] went ___" for i in range(2 * BATCH + 3)]
    answers = predictor.predict(inputs)
    assert [answer["asked"][0] for answer in answers] == [(i % 5) / 100 for i in range(len(inputs))]
    assert predictor.count_units(answers) == 2 * len(inputs)
    assert predictor.predict([]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the ship", "no blank in it; write ___"),
        ("", "no blank in it"),
        ("the [zebra] went", "'zebra': not one of the 6 words learnt"),
        ("the [] went", "not one of the 6 words learnt"),
        ("the [<mask>] went", "not one of the 6 words learnt"),
        ("the " * LONGEST + "___", f"{LONGEST + 1} words; give at most {LONGEST}"),
    ],
)
def test_texts_that_cannot_be_filled_are_refused_in_one_line(
    predictor: MaskedLanguageModelPredictor, text: str, message: str
) -> None:
    with pytest.raises(ModelpressError) as error:
        predictor.predict([text])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text())
def test_any_text_is_cut_into_words_as_the_training_text_was(text: str) -> None:
    assert words(text.replace("’", "'")) == english_texts.words(text)


@given(st.text())
def test_any_text_with_a_blank_is_answered_or_refused(predictor: MaskedLanguageModelPredictor, text: str) -> None:
    try:
        (answer,) = predictor.predict([f"___ {text}"])
    except ModelpressError:
        return
    assert len(answer["blanks"]) == len(answer["asked"]) >= 1
