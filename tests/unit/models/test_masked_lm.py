from __future__ import annotations

import pytest
import torch

from components.inference.masked_language_model import FIRST_WORD, MASK
from components.inference.tokenizers import PAD
from components.models.masked_lm import MaskedLM, Neighbours
from components.tasks.masked_language_model import hide

VOCABULARY = 50


def model(reach: int = 2) -> MaskedLM:
    torch.manual_seed(0)
    share = torch.full((VOCABULARY,), 1 / VOCABULARY)
    return MaskedLM(share, width=16, heads=2, ffn=32, layers=2, reach=reach, dropout=0.0, pad=PAD).eval()


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_a_blank_sees_both_sides_and_no_padding(reach: int) -> None:
    net, blank = model(reach), torch.tensor([[2]])
    ids = torch.tensor([[7, 8, MASK, 9, 10]])
    with torch.no_grad():
        logits = net(ids, blank)
        for place in (0, 1, 3, 4):
            changed = ids.clone()
            changed[0, place] = 20
            assert (net(changed, blank) - logits).abs().max() > 1e-3
        padded = torch.nn.functional.pad(ids, (0, 6), value=PAD)
        torch.testing.assert_close(net(padded, blank), logits, rtol=1e-4, atol=1e-5)


def test_neighbours_are_mixed_as_by_a_convolution() -> None:
    torch.manual_seed(0)
    beside, x_BLW = Neighbours(4, 2), torch.randn(3, 7, 4)
    kernel_OIK = beside.mix.weight.unflatten(1, (5, 4)).transpose(1, 2)
    mixed_BWL = torch.nn.functional.conv1d(x_BLW.transpose(1, 2), kernel_OIK, beside.mix.bias, padding=2)
    torch.testing.assert_close(beside(x_BLW, torch.ones(3, 7, 1)), x_BLW + mixed_BWL.transpose(1, 2))


def test_logits_stand_in_the_order_of_rows_and_blanks() -> None:
    net, ids = model(), torch.randint(FIRST_WORD, VOCABULARY, (3, 9))
    with torch.no_grad():
        together = net(ids, torch.tensor([[1, 4], [2, 7], [0, 8]]))
        torch.testing.assert_close(together[3:4], net(ids[1:2], torch.tensor([[7]])), rtol=1e-4, atol=1e-5)


def test_last_layer_gives_at_the_blanks_what_it_would_everywhere() -> None:
    net, ids = model(), torch.randint(FIRST_WORD, VOCABULARY, (3, 9))
    ids[0, 6:] = PAD
    blank = torch.tensor([[1, 4], [2, 7], [0, 8]])
    *_, last = net.layers
    x, mask = torch.randn(3, 9, 16), (ids == PAD)[:, None, None, :] * -1e4
    with torch.no_grad():
        everywhere = last(x, mask)
        torch.testing.assert_close(last(x, mask, blank), everywhere[torch.arange(3)[:, None], blank])


def test_of_the_words_chosen_80_per_cent_are_masked_and_10_are_others() -> None:
    torch.manual_seed(0)
    words = torch.randint(FIRST_WORD, VOCABULARY, (2000, 64))
    seen, place, word = hide(words, VOCABULARY)
    there = word >= 0
    chosen = seen.gather(1, place)[there]
    masked, same = chosen == MASK, chosen == word[there]
    assert abs(float(masked.float().mean()) - 0.8) < 0.02
    assert abs(float(same.float().mean()) - 0.1) < 0.02
    assert abs(float(there.sum() / (seen != PAD).sum()) - 0.15) < 0.01
    assert torch.equal(words.gather(1, place)[there], word[there])
    untouched = torch.ones_like(words, dtype=torch.bool).scatter(1, place, ~there)
    assert torch.equal(seen[untouched & (seen != PAD)], words[untouched & (seen != PAD)])


def test_one_row_in_ten_is_cut_short_and_unknown_words_are_never_chosen() -> None:
    torch.manual_seed(0)
    words = torch.randint(1, VOCABULARY, (2000, 64))  # among them ids that are no words
    words[0] = 1
    seen, _, word = hide(words, VOCABULARY)
    short = (seen == PAD).any(1) & ~(words == PAD).any(1)
    assert 0.07 < float(short.float().mean()) < 0.13
    assert int(word[word >= 0].min()) >= FIRST_WORD
    assert (word[0] < 0).all()
