"""Kept logits: a teacher that says the same of an example in every epoch is asked once, and what it said is looked up.

Kept are the likeliest classes of each target. All others count as one class: the student learns how probable they are
together, and nothing of each, so that what was left out teaches nothing wrong.
Shapes: M targets of B examples that count, of N in a batch; V classes, K of them kept.
"""

from __future__ import annotations

import copy
import hashlib
import io
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.core.errors import ConfigError
from components.core.files import write_bytes
from components.core.task import StepOutput

KEY_BYTES = 16
TELL_EVERY_S = 60
OTHERS = "logit.keep: this task's examples are others in each epoch (augmented, masked); leave it out"
UNSUITED = "logit.keep: this task's batches are no tuples of tensors with zeros as padding; leave it out"
NO_CLASSES = "logit.keep: this task has no distribution over classes to keep; leave it out"


@dataclass(frozen=True)
class KeptLogits:
    """What a teacher said of every example of a dataset.

    places: an example's key -> its first row and its number of rows below.
    classes: (rows, K) int32. log_probabilities: (rows, K) float16, at the temperature they were asked for.
    """

    places: dict[bytes, tuple[int, int]]
    classes: Tensor
    log_probabilities: Tensor

    def of(self, batch: Any, counted_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes, int64 (M, K), and log-probabilities, float32 (M, K), of a batch's targets that count.

        Raises:
            ConfigError: the dataset did not have an example as it is in the batch.
        """
        try:
            places = [self.places[key] for key in example_keys(batch)]
        except KeyError:
            raise ConfigError([OTHERS]) from None
        rows_M = torch.cat([torch.arange(first, first + count) for first, count in places])
        classes_MK, log_probabilities_MK = self.classes[rows_M].long(), self.log_probabilities[rows_M].float()
        return classes_MK.to(counted_N.device), log_probabilities_MK.to(counted_N.device)


def kept_logits(
    step: Callable[[nn.Module, Any], StepOutput],
    teacher: nn.Module,
    batches: Callable[[], Iterable[Any]],
    classes: int,
    temperature: float,
    cache: Callable[[str], Path],
) -> KeptLogits:
    """Return what a teacher says of the examples of batches, which must be the same at each call.

    cache: the file to keep it in, by a digest of the examples; it must change with the teacher and its task.

    Raises:
        ConfigError: the teacher would say something else in each epoch, or nothing of classes.
    """
    keys = [key for batch in batches() for key in example_keys(batch)]
    path = cache(hashlib.sha256(b"".join(keys)).hexdigest())
    kept = _read(path)
    if kept is None:
        _check(step, teacher, next(iter(batches())))
        write_bytes(path, _ask(step, teacher, batches, len(keys), classes, temperature))
        kept = _read(path)
        assert kept is not None
    rows, chosen, log_probabilities = kept
    places = {
        key: (end - count, count) for key, end, count in zip(keys, rows.cumsum().tolist(), rows.tolist(), strict=True)
    }
    return KeptLogits(places, torch.from_numpy(chosen), torch.from_numpy(log_probabilities))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return rows, classes and log-probabilities of a file, or None where there is none that can be read."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            return kept["rows"], kept["classes"], kept["log_probabilities"]
    except Exception as error:  # whatever a file that was cut raises: asking again is always right
        print(f"{path}: unreadable ({type(error).__name__}), asking the teacher again", flush=True)
        path.unlink()
        return None


def _check(step: Callable[[nn.Module, Any], StepOutput], teacher: nn.Module, batch: Any) -> None:
    """Refuse what cannot be kept before the teacher is asked about everything.

    Raises:
        ConfigError: a task whose batches are changed in training, or hold no distribution over classes.
    """
    before, batch = example_keys(batch), _beside(teacher, batch)
    # not inference_mode: a mask that a model draws now and keeps is for trainings too
    with torch.no_grad():
        output = step(copy.deepcopy(teacher).train(), batch)  # a copy: norms would take the batch into account
    if output.numeric or output.logits.shape[-1] < 2:
        raise ConfigError([NO_CLASSES])
    if example_keys(batch) != before:
        raise ConfigError([OTHERS])
    if output.logits.dim() != 2 or len(output.logits) % len(batch[0]):
        raise ConfigError([UNSUITED])


def _ask(
    step: Callable[[nn.Module, Any], StepOutput],
    teacher: nn.Module,
    batches: Callable[[], Iterable[Any]],
    examples: int,
    classes: int,
    temperature: float,
) -> bytes:
    """Return an npz file: rows (examples,), classes (rows, K), log_probabilities (rows, K)."""
    rows, chosen, values = [], [], []
    started = told = time.monotonic()
    done = 0
    for batch in batches():
        with torch.no_grad():
            output = step(teacher, _beside(teacher, batch))
            counted_N = output.counted()
            log_probabilities_MV = (output.logits[counted_N].float() / temperature).log_softmax(-1)
            top = log_probabilities_MV.topk(min(classes, log_probabilities_MV.shape[1]), -1)
        rows.append(counted_N.view(len(batch[0]), -1).sum(1).cpu().numpy())
        chosen.append(top.indices.to(torch.int32).cpu().numpy())
        values.append(top.values.half().cpu().numpy())
        done += len(rows[-1])
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            left = (told - started) / done * (examples - done)
            print(f"teacher's distributions {done}/{examples}, about {left:.0f} s left", flush=True)
    file = io.BytesIO()
    np.savez(file, rows=np.concatenate(rows), classes=np.concatenate(chosen), log_probabilities=np.concatenate(values))
    return file.getvalue()


def _beside(teacher: nn.Module, batch: Any) -> tuple[Tensor, ...]:
    device = next((p.device for p in teacher.parameters()), torch.device("cpu"))
    return tuple(tensor.to(device) for tensor in batch)


def example_keys(batch: Any) -> list[bytes]:
    """Return a digest of each example of a batch of tensors, the same however much padding (zeros) is behind it.

    Raises:
        ConfigError: a batch of another kind, or padding of another kind: whole numbers below zero.
    """
    if not isinstance(batch, tuple | list) or not all(isinstance(tensor, Tensor) for tensor in batch):
        raise ConfigError([UNSUITED])
    arrays = [tensor.cpu().numpy() for tensor in batch]
    if any(np.issubdtype(array.dtype, np.signedinteger) and array.size and array.min() < 0 for array in arrays):
        raise ConfigError([UNSUITED])
    return [
        hashlib.blake2b(b"|".join(array[i].tobytes().rstrip(b"\0") for array in arrays), digest_size=KEY_BYTES).digest()
        for i in range(len(arrays[0]))
    ]
