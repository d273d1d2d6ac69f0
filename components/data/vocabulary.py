"""Vocabularies made from training sentences: a SentencePiece model, or a list of words. Same sentences, same bytes."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from components.core.errors import ModelpressError
from components.core.files import write_bytes, write_text
from components.inference.tokenizers import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

_LARGEST_ALPHABET = 500  # distinct characters


def train_sentencepiece(
    sentences: Iterable[str],
    out_model: Path,
    vocabulary: int,
    model_type: Literal["unigram", "bpe"] = "unigram",
    character_coverage: float | None = None,
) -> None:
    """Train a SentencePiece model of `vocabulary` pieces, the four special ones included, and write it to `out_model`.

    A share of 1 - character_coverage of all the characters, the rarest ones, becomes UNK. By default an alphabet is
    kept whole; of a writing system of thousands, 0.9995: kanji met once would otherwise fill the vocabulary.
    One thread, so that the bytes depend on nothing but the arguments.

    Raises:
        ModelpressError: no sentences, or a vocabulary too large or too small for them.
    """
    from sentencepiece import SentencePieceTrainer

    sentences = list(sentences)
    if not any(sentences):
        raise ModelpressError(f"{out_model.name}: no sentences to train a tokenizer on; check the dataset's split")
    if character_coverage is None:
        character_coverage = 1.0 if len(set().union(*sentences)) <= _LARGEST_ALPHABET else 0.9995
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocabulary,
            model_type=model_type,
            character_coverage=character_coverage,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            byte_fallback=False,
            num_threads=1,
            minloglevel=2,  # errors only: its trace of the training is hundreds of lines
        )
    except (RuntimeError, OSError) as error:
        raise ModelpressError(f"{out_model.name}: {_sentencepiece_problem(str(error), vocabulary)}") from None
    write_bytes(out_model, model.getvalue())


def train_words(sentences: Iterable[str], out: Path, min_frequency: int) -> None:
    """Write the words that occur at least `min_frequency` times, the most common first, ties by code point.

    Words are what whitespace separates; the special tokens take the first four lines and are never counted as words.
    """
    counts = Counter(word for sentence in sentences for word in sentence.split())
    kept = [word for word, count in counts.items() if count >= min_frequency and word not in SPECIAL_TOKENS]
    kept.sort(key=lambda word: (-counts[word], word))
    write_text(out, "".join(f"{word}\n" for word in (*SPECIAL_TOKENS, *kept)))


def _sentencepiece_problem(text: str, vocabulary: int) -> str:
    """Return a failure of the trainer in one line; it names the source lines of its own library first."""
    if limit := re.search(r"Please set it to a value <= (\d+)", text):
        return f"a vocabulary of {vocabulary:,} is too large for these sentences; set at most {int(limit[1]):,}"
    if needed := re.search(r"smaller than required_chars\. \d+ vs (\d+)", text):
        return f"a vocabulary of {vocabulary:,} can't hold the {int(needed[1]):,} characters that occur; set more"
    return f"SentencePiece can't train on these sentences: {' '.join(text.split())}"
