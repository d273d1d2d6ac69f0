"""Pictures in, labels out: decode, bring to the model's size, one run of the graph, the most probable labels."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import ModelpressError
from components.inference.data_urls import data_url_bytes
from components.inference.labels import most_probable, read_labels
from components.inference.predictor import Predictor
from components.inference.session import Session

BATCH = 64
MOST_PIXELS = 32_000_000  # what a phone's camera takes, 100 MB unpacked
FORMATS = ("PNG", "JPEG")  # what is asked to parse bytes from outside
MODES = {1: "L", 3: "RGB"}  # Pillow's, by channels


class ImageClassificationPredictor(Predictor):
    """The graph "classify": `image` uint8 (B, H, W, C) -> `label` int64 (B,), `probability` float32 (B, classes)."""

    unit = "images"

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        super().__init__(sessions, assets, options)
        self._labels = read_labels(assets)
        shape = json.loads((assets / "picture.json").read_text(encoding="utf-8"))
        self._size, self._channels = (shape["width"], shape["height"]), shape["channels"]

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        """Return {"label", "probabilities": {label: probability}, the five most probable ones} of each picture.

        inputs: paths of PNG or JPEG files, or their bytes as `data:image/png;base64,...`. A picture of another size is
        resized, one of another kind of colour converted.

        Raises:
            ModelpressError: a file that is not there, or that is no such picture.
        """
        answers: list[dict[str, Any]] = []
        for start in range(0, len(inputs), BATCH):
            pictures = [open_picture(text, self._channels, self._size) for text in inputs[start : start + BATCH]]
            answers += self._classify(np.stack(pictures))
        return answers

    def _classify(self, image_BHWC: np.ndarray) -> list[dict[str, Any]]:
        outputs = self.sessions["classify"].run(["label", "probability"], {"image": image_BHWC})
        return [most_probable(self._labels, *answer) for answer in zip(*outputs, strict=True)]

    def count_units(self, answers: list[dict[str, Any]]) -> int:
        """Return the number of pictures."""
        return len(answers)


def open_picture(text: str, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return a picture uint8 (H, W, channels), given as the path of a file or as a data URL.

    size: width and height to bring it to; its own where None.

    Raises:
        ModelpressError: no such file, or neither PNG nor JPEG.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name, content = f"{text[:30]}..." if text.startswith("data:") else text, _content(text)
    try:
        with Image.open(content, formats=FORMATS) as file:
            if file.width * file.height > MOST_PIXELS:  # known from the head, before anything is unpacked
                raise ModelpressError(f"{name}: {file.width} x {file.height} pixels, at most {MOST_PIXELS:,} in all")
            picture = ImageOps.exif_transpose(file).convert(MODES[channels])
    except FileNotFoundError:
        raise ModelpressError(f"{name}: no such file; give a PNG or JPEG file, or a data URL") from None
    except UnidentifiedImageError:
        raise ModelpressError(f"{name}: neither a PNG nor a JPEG picture") from None
    except ModelpressError:
        raise
    except Exception as error:  # Pillow's parsers raise almost anything on damaged bytes
        raise ModelpressError(f"{name}: a broken PNG or JPEG picture ({error})") from None
    if size is not None and picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def _content(text: str) -> Path | io.BytesIO:
    """Return the file, or what a data URL holds."""
    return io.BytesIO(data_url_bytes(text, "image/png")) if text.startswith("data:") else Path(text)


PREDICTOR = ImageClassificationPredictor
