"""A beam as wide as the vocabulary tries everything: it must find what trying everything finds."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from components.export.torch_session import run_eagerly
from components.models.rnn import RecurrentSeq2Seq
from components.models.transformer import Transformer
from components.tasks.translation import TASK, SearchOptions

PAD, BOS, EOS, WORDS = 0, 2, 3, 16


def model(kind: str) -> torch.nn.Module:
    torch.manual_seed(3)
    if kind == "rnn":
        found: torch.nn.Module = RecurrentSeq2Seq(9, WORDS, width=8, layers=1, cell="gru", dropout=0.0, pad=PAD)
    else:
        found = Transformer(
            9, WORDS, width=8, head_width=4, heads=(2,), ffn=(16,), decoder_heads=(2,), source_heads=(2,),
            decoder_ffn=(16,), dropout=0.0, positions="add", pad=PAD,
        )  # fmt: skip
    for parameter in found.parameters():  # sharp enough that the search has something to decide
        parameter.data *= 3
    return found.eval()


def best_by_trying_everything(seq2seq: torch.nn.Module, source: torch.Tensor, alpha: float) -> tuple[list[int], float]:
    """Return the answer of at most two tokens with the highest log-probability over length ** alpha."""
    candidates = [[EOS], *(list(pair) for pair in product(range(WORDS), repeat=2) if pair[0] != EOS)]
    scores = []
    for tokens in candidates:
        logits = seq2seq(source, torch.tensor([[BOS, *tokens[:-1]]]))[0].log_softmax(-1)
        score = sum(float(logits[place, token]) for place, token in enumerate(tokens))
        scores.append(score / len(tokens) ** alpha)
    place = max(range(len(scores)), key=scores.__getitem__)
    return candidates[place], scores[place]


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_beam_search_finds_the_best_of_all_answers(kind: str, alpha: float) -> None:
    seq2seq = model(kind)
    sources = torch.tensor([[4, 5, EOS, PAD], [6, 7, 8, EOS], [5, EOS, PAD, PAD]])
    (spec,) = TASK.graphs(seq2seq, SearchOptions(beam=WORDS, length_penalty=alpha, max_length=2))
    with torch.no_grad():
        answers = run_eagerly(spec, {"source": sources})["target"].tolist()
        for source, answer in zip(sources, answers, strict=True):
            best, score = best_by_trying_everything(seq2seq, source[None], alpha)
            assert answer[: len(best)] == best, score
