"""Sentence <-> token ids, without torch: a predictor needs it beside its graph. Ids 0 to 3 mean the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from components.core.errors import ModelpressError

PAD, UNK, BOS, EOS = range(4)
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")  # at the index that is their id

_FIX = "prepare the recipe's data again"


class Tokenizer(Protocol):
    """Encodes one sentence, given as text or as its tokens, and decodes ids to text."""

    def __len__(self) -> int:
        """Return the number of ids, the four special ones included."""

    def encode(self, sentence: str | Sequence[str]) -> list[int]:
        """Return the sentence's ids, without BOS and EOS; what the vocabulary lacks is UNK."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids up to the first EOS; PAD and BOS are left out."""

    def piece(self, number: int) -> str:
        """Return the token an id stands for; the ids 0 to 3 are SPECIAL_TOKENS."""


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a file: `.model` is SentencePiece, `.txt` a list of words.

    Raises:
        ModelpressError: no such file, another kind of file, or one whose special ids are not ours.
    """
    if not path.is_file():
        raise ModelpressError(f"{path}: no such tokenizer; {_FIX}")
    if path.suffix == ".model":
        return SentencePieceTokenizer(path)
    if path.suffix == ".txt":
        return WordTokenizer(path)
    raise ModelpressError(f"{path}: not a tokenizer; expected a .model (SentencePiece) or a .txt (one word a line)")


class SentencePieceTokenizer:
    """Subwords of a SentencePiece model: `decode(encode(x)) == normalize(x)` where no character is unknown."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        try:
            self._model = SentencePieceProcessor(model_proto=path.read_bytes())
        except (RuntimeError, OSError) as error:
            raise ModelpressError(f"{path}: not a SentencePiece model ({error}); {_FIX}") from None
        model = self._model
        found = (model.pad_id(), model.unk_id(), model.bos_id(), model.eos_id())
        if found != (PAD, UNK, BOS, EOS):
            expected = (PAD, UNK, BOS, EOS)
            raise ModelpressError(f"{path}: its pad, unk, bos, eos ids are {found}, not {expected}; {_FIX}")

    def __len__(self) -> int:
        return int(self._model.get_piece_size())

    def encode(self, sentence: str | Sequence[str]) -> list[int]:
        ids: list[int] = self._model.encode(_text(sentence))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._model.decode(list(_content(ids))))

    def piece(self, number: int) -> str:
        return str(self._model.id_to_piece(number)).replace("\u2581", " ").strip() or "\u2423"

    def normalize(self, text: str) -> str:
        """Return the text as the model sees it: NFKC with its own additions, single spaces."""
        return str(self._model.normalize(text)).replace("\u2581", " ").strip()


class WordTokenizer:
    """Whole words, split at whitespace: line n of the file is the word with id n."""

    def __init__(self, path: Path) -> None:
        try:
            words = path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ModelpressError(f"{path}: not UTF-8 ({error}); {_FIX}") from None
        if words[-1] == "":
            words.pop()
        if tuple(words[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise ModelpressError(f"{path}: doesn't begin with the lines {' '.join(SPECIAL_TOKENS)}; {_FIX}")
        self._words = words
        self._ids = {word: number for number, word in enumerate(words) if number >= len(SPECIAL_TOKENS)}
        if len(self._ids) + len(SPECIAL_TOKENS) != len(words):
            raise ModelpressError(f"{path}: a word stands in it twice; {_FIX}")

    def __len__(self) -> int:
        return len(self._words)

    def encode(self, sentence: str | Sequence[str]) -> list[int]:
        return [self._ids.get(word, UNK) for word in _text(sentence).split()]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self._words[number] for number in _content(ids))

    def piece(self, number: int) -> str:
        return self._words[number]


def _text(sentence: str | Sequence[str]) -> str:
    return sentence if isinstance(sentence, str) else " ".join(sentence)


def _content(ids: Iterable[int]) -> Iterator[int]:
    """Yield plain ints up to the first EOS, without PAD and BOS (numpy integers are accepted)."""
    for number in map(int, ids):
        if number == EOS:
            return
        if number not in (PAD, BOS):
            yield number
