"""Right and wrong labels are counted, the surest wrong ones come first."""

from __future__ import annotations

from components.evaluation.labelled import accuracy, surest_mistakes

ANSWERS = [{"label": label, "probabilities": {label: share}} for label, share in (("a", 0.6), ("b", 0.9), ("b", 0.7))]


def test_accuracy_is_the_share_of_right_labels_in_percent() -> None:
    assert accuracy(ANSWERS, ["a", "b", "b"]) == 100.0
    assert accuracy(ANSWERS, ["b", "a", "a"]) == 0.0
    assert round(accuracy(ANSWERS, ["a", "b", "a"]), 2) == 66.67


def test_mistakes_are_ordered_by_how_sure_they_were() -> None:
    assert surest_mistakes(ANSWERS, ["b", "a", "a"]) == [1, 2, 0]
    assert surest_mistakes(ANSWERS, ["a", "a", "b"]) == [1]
    assert surest_mistakes(ANSWERS, ["a", "b", "b"]) == []
