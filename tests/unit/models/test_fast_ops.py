"""The fast forms compute what torch's own functions do."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from components.models.fast_ops import MASKED, attention, dropout, smoothed_cross_entropy


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
