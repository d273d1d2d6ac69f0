"""The fast forms compute what torch's own functions do."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from components.models.fast_ops import MASKED, attention, distillation_loss, dropout, smoothed_cross_entropy


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 8),
    classes=st.integers(2, 20),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    ignored=st.sets(st.integers(0, 7), max_size=7),
    seed=st.integers(0, 2**31),
)
def test_smoothed_cross_entropy_equals_torch(
    rows: int, classes: int, smoothing: float, ignored: set[int], seed: int
) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(rows, classes, dtype=torch.float32, requires_grad=True)
    reference = logits.detach().clone().requires_grad_()
    targets = torch.randint(0, classes, (rows,))
    for row in ignored & set(range(rows - 1)):  # at least one target counts
        targets[row] = -5
    ours = smoothed_cross_entropy(logits, targets, smoothing, -5)
    theirs = F.cross_entropy(reference, targets, label_smoothing=smoothing, ignore_index=-5)
    (3 * ours).backward()
    (3 * theirs).backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits.grad, reference.grad, rtol=1e-4, atol=1e-5)


def test_smoothed_cross_entropy_is_zero_when_nothing_counts() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    loss = smoothed_cross_entropy(logits, torch.zeros(3, dtype=torch.int64), 0.1, 0)
    loss.backward()
    assert float(loss) == 0.0
    assert not logits.grad.any()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_loss_equals_kl_divergence_and_spares_the_teacher(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 9, requires_grad=True), torch.randn(6, 9, requires_grad=True)
    reference = student.detach().clone().requires_grad_()
    keep = torch.tensor([True, False, True, True, False, True])
    ours = distillation_loss(student, teacher, keep, temperature)
    log_probs = F.log_softmax(reference[keep] / temperature, -1)
    theirs = (
        F.kl_div(log_probs, (teacher.detach()[keep] / temperature).softmax(-1), reduction="batchmean") * temperature**2
    )
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(student.grad, reference.grad)
    assert teacher.grad is None


def test_attention_ignores_masked_keys_and_equals_torch() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    mask = torch.zeros(2, 1, 1, 5)
    mask[0, ..., 3:] = MASKED
    torch.testing.assert_close(
        attention(query, key, value, mask), F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    )


def test_dropout_keeps_the_mean_and_repeats_with_the_seed() -> None:
    x = torch.ones(1000, 100)
    torch.manual_seed(3)
    first = dropout(x, 0.3, training=True)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.3, training=True))
    assert abs(float(first.mean()) - 1) < 0.02
    assert abs(float((first == 0).float().mean()) - 0.3) < 0.02
    assert dropout(x, 0.3, training=False) is x
