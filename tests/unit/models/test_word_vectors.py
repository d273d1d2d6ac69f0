"""Word2vec by blocks is the papers' loss, pair by pair; counting neighbours and asking for the nearest are exact."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from components.models.word_counts import PpmiSvd, count_neighbours, ppmi
from components.models.word_vectors import Cbow, NearestWords, SkipGram, WordVectors, blocks

COUNTS = torch.tensor([50, 30, 20, 10, 5, 5])


def model(kind: type[WordVectors], window: int = 2) -> WordVectors:
    torch.manual_seed(0)
    made = kind(COUNTS, width=4, window=window, negatives=3, sample=0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def plain_loss(made: WordVectors, text: list[int], pairs: np.ndarray, noise: list[int]) -> float:
    """One block, word by word, as the papers write it."""
    table, context = made.table.detach(), made.context.detach()
    share, total = made.negatives / len(noise), 0.0
    for place, word in enumerate(text):
        near = [other for other in range(len(text)) if pairs[place, other]]
        if isinstance(made, SkipGram):
            for other in near:
                total += float(F.softplus(-table[word] @ context[text[other]]))
                total += share * sum(float(F.softplus(table[word] @ context[n])) for n in noise)
        elif near:
            mean = torch.stack([table[text[other]] for other in near]).mean(0)
            total += float(F.softplus(-mean @ context[word]))
            total += share * sum(float(F.softplus(mean @ context[n])) for n in noise)
    return total


@pytest.mark.parametrize("kind", [SkipGram, Cbow])
def test_a_blocks_loss_is_the_sum_over_its_pairs(kind: type[WordVectors]) -> None:
    made, rng = model(kind), np.random.default_rng(0)
    text, noise = rng.integers(0, 6, made.block).tolist(), rng.integers(0, 6, made.block).tolist()
    distance = np.abs(np.subtract.outer(np.arange(made.block), np.arange(made.block)))
    pairs = (distance > 0) & (distance <= rng.integers(1, 3, (made.block, 1)))
    wide = np.pad(pairs, ((0, 0), (2, 2)))
    centre, around = blocks(torch.tensor(text), made.block, 2)
    loss = made.block_loss(centre, around.clamp(min=0), torch.from_numpy(wide[None]).float(), torch.tensor([noise]))
    assert float(loss.detach()) == pytest.approx(plain_loss(made, text, pairs, noise), rel=1e-5)


@pytest.mark.parametrize("kind", [SkipGram, Cbow])
def test_pieces_of_text_know_nothing_of_each_other(kind: type[WordVectors]) -> None:
    made = model(kind).eval()
    made.negatives = 0
    apart, _ = made(torch.tensor([[1], [2], [3]]))
    assert float(apart.detach()) == 0.0, "no word has a neighbour"
    together, _ = made(torch.tensor([[1, 2, 3]]))
    assert float(together.detach()) > 0


def test_evaluation_draws_the_same_each_time_and_training_does_not() -> None:
    made, text = model(SkipGram), torch.arange(6).repeat(4, 10)
    losses = [float(made.train(training)(text)[0].detach()) for training in (False, False, True, True)]
    assert losses[0] == losses[1]
    assert losses[2] != losses[3]


def test_frequent_words_are_left_out_as_often_as_the_paper_says() -> None:
    made = SkipGram(torch.tensor([900, 90, 10]), width=4, window=2, negatives=1, sample=0.01)
    torch.manual_seed(0)
    _, taken = made(torch.tensor([0, 1, 2]).repeat(1, 20_000))
    shares = np.bincount(taken.numpy(), minlength=3) / 20_000
    expected = [(0.01 / f) ** 0.5 + 0.01 / f for f in (0.9, 0.09)]
    np.testing.assert_allclose(shares, [*expected, 1], atol=0.01)


@settings(max_examples=50, deadline=None)
@given(arrays(np.int32, (3, 7), elements=st.integers(-1, 4)), st.integers(1, 4))
def test_neighbours_are_counted_as_by_hand(text: np.ndarray, window: int) -> None:
    expected = np.zeros((5, 5))
    for row in text:
        for i, a in enumerate(row):
            for j, b in enumerate(row):
                if i != j and abs(i - j) <= window and a >= 0 and b >= 0:
                    expected[a, b] += (window + 1 - abs(i - j)) / window
    np.testing.assert_allclose(count_neighbours(text, 5, window).toarray(), expected)


def test_words_that_meet_by_chance_alone_have_no_information() -> None:
    from scipy.sparse import csr_array

    even = ppmi(csr_array(np.full((4, 4), 3.0))).toarray()
    np.testing.assert_allclose(even, 0, atol=1e-12)
    uneven = ppmi(csr_array(np.array([[0, 9.0], [9.0, 1.0]]))).toarray()
    assert uneven[0, 1] > 0
    assert uneven[1, 1] == 0


def test_counts_put_words_of_one_topic_together_and_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    text = (rng.integers(0, 2, (60, 1)) * 6 + rng.integers(0, 6, (60, 12))).astype(np.int32)
    tables = []
    for _ in range(2):
        made = PpmiSvd(12, width=3, window=3)
        assert 0 < made.solve(SimpleNamespace(text=text), seed=1)["train_loss"] < 1
        tables.append(made.vectors().detach())
    assert torch.equal(*tables)
    cosine = F.normalize(tables[0]) @ F.normalize(tables[0]).T
    assert cosine[:6, :6].min() > cosine[:6, 6:].max()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 19), min_size=1, max_size=4, unique=True), st.integers(0, 2**16))
def test_nearest_words_are_those_of_the_largest_cosine_and_none_of_the_given(words: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, weights = rng.standard_normal((20, 6)).astype(np.float32), rng.choice([-1.0, 1.0], len(words))
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    query = weights @ unit[words]
    cosine = unit @ query / np.linalg.norm(query)
    nearest, similarity, given_words = NearestWords(torch.from_numpy(table), 5)(
        torch.tensor([words]), torch.from_numpy(weights[None].astype(np.float32))
    )
    others = [i for i in np.argsort(-cosine) if i not in words][:5]
    assert nearest[0].tolist() == others
    np.testing.assert_allclose(similarity[0].detach(), cosine[others], atol=1e-5)
    np.testing.assert_allclose(given_words[0].detach(), cosine[words], atol=1e-5)
