"""A model is quick by the clock on its golden inputs, and only for inputs like them."""

from __future__ import annotations

import time
from typing import Any

from deploy.server.quick import Quick, measure_quick


class Predictor:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def predict(self, inputs: list[Any]) -> list[Any]:
        time.sleep(self.seconds)
        return inputs


def test_predictor_that_waits_is_not_quick_however_little_it_computes() -> None:
    assert measure_quick(Predictor(0.002), ["a", "b"]) == Quick()


def test_quick_model_takes_inputs_up_to_the_size_of_its_largest_golden_one() -> None:
    quick = measure_quick(Predictor(0.0), ["a", "abc"])
    assert quick.size == len('"abc"')
    assert quick.fits(["xyz"])
    assert not quick.fits(["wxyz"])
    assert not quick.fits(["a"] * (quick.together + 1))
    assert not quick.fits([])


def test_pictures_and_sounds_are_never_quick() -> None:
    assert measure_quick(Predictor(0.0), ["data:image/png;base64,AAAA"]) == Quick()
