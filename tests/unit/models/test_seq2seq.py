"""Both architectures: step by step they compute what they do in one pass, and padding changes nothing."""

import pytest
import torch
from torch import nn

from components.models.multiply_adds import multiply_adds
from components.models.rnn import RecurrentSeq2Seq
from components.models.transformer import Transformer

PAD, EOS = 0, 3


def transformer(positions: str = "add") -> Transformer:
    return Transformer(
        30,
        40,
        width=32,
        head_width=8,
        heads=(4, 2),
        ffn=(48, 16),
        decoder_heads=(3, 1),
        source_heads=(2, 4),
        decoder_ffn=(16, 48),
        dropout=0.1,
        positions=positions,  # type: ignore[arg-type]
        pad=PAD,
    )


def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    recurrent = {
        f"{cell}-{layers}": RecurrentSeq2Seq(30, 40, width=16, layers=layers, cell=cell, dropout=0.1, pad=PAD)
        for cell in ("gru", "lstm")
        for layers in (1, 2)
    }
    return {"add": transformer("add"), "concat": transformer("concat"), **recurrent}


@pytest.mark.parametrize("name", list(models()))
def test_step_by_step_equals_one_pass(name: str) -> None:
    model = models()[name].eval()
    source = torch.randint(4, 30, (3, 6))
    source[1, 4:] = PAD
    target = torch.randint(4, 40, (3, 5))
    with torch.no_grad():
        whole = model(source, target)
        constants, state = model.begin(source, 1)
        for step in range(target.shape[1]):
            logits, state = model.advance(target[:, step : step + 1], torch.tensor(step), constants, state, 1)
            torch.testing.assert_close(logits, whole[:, step], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(models()))
def test_padding_changes_nothing(name: str) -> None:
    model = models()[name].eval()
    source, target = torch.randint(4, 30, (1, 4)), torch.randint(4, 40, (1, 5))
    padded = torch.cat([source, torch.full((1, 3), PAD)], 1)
    with torch.no_grad():
        torch.testing.assert_close(model(source, target), model(padded, target), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(models()))
def test_a_token_does_not_see_those_behind_it(name: str) -> None:
    model = models()[name].eval()
    source, target = torch.randint(4, 30, (2, 4)), torch.randint(4, 40, (2, 6))
    changed = target.clone()
    changed[:, 4:] = 7
    with torch.no_grad():
        torch.testing.assert_close(model(source, target)[:, :4], model(source, changed)[:, :4])


@pytest.mark.parametrize("name", list(models()))
def test_hypotheses_of_one_source_share_its_constants(name: str) -> None:
    model = models()[name].eval()
    source, beams = torch.randint(4, 30, (2, 4)), 3
    token = torch.arange(4, 4 + 2 * beams)[:, None]
    with torch.no_grad():
        together, _ = model.advance(token, torch.tensor(0), *model.begin(source, beams), beams)
        copies = source.repeat_interleave(beams, 0)
        apart, _ = model.advance(token, torch.tensor(0), *model.begin(copies, 1), 1)
    torch.testing.assert_close(together, apart)


def test_multiply_adds_of_a_transformer_are_those_of_the_formula() -> None:
    source, target, width, head, words = 6, 5, 32, 8, 40
    encoder = sum(4 * source * width * h * head + 2 * source**2 * h * head for h in (4, 2)) + 2 * source * width * 64
    own = sum(4 * target * width * h * head + 2 * target**2 * h * head for h in (3, 1)) + 2 * target * width * 64
    across = sum(2 * (source + target) * width * h * head + 2 * source * target * h * head for h in (2, 4))
    counted = multiply_adds(transformer().eval(), torch.full((1, source), 5), torch.full((1, target), 5))
    assert counted == encoder + own + across + target * width * words


@pytest.mark.parametrize(("cell", "gates"), [("gru", 3), ("lstm", 4)])
def test_multiply_adds_of_a_recurrence_are_those_of_the_formula(cell: str, gates: int) -> None:
    source, target, width, hidden, words = 6, 5, 16, 32, 40
    encoder = 2 * source * gates * width * (width + width) + hidden * hidden
    decoder = target * gates * hidden * (width + hidden)
    attention = source * hidden * hidden + 2 * source * target * hidden + target * 2 * hidden * width
    counted = multiply_adds(models()[f"{cell}-1"].eval(), torch.full((1, source), 5), torch.full((1, target), 5))
    assert counted == encoder + decoder + attention + target * width * words
