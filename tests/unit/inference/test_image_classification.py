from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.core.errors import ModelpressError
from components.data.image_dataset import data_url
from components.inference.image_classification import BATCH, ImageClassificationPredictor, open_picture

LABELS = ["black", "dark", "grey", "light", "pale", "white"]


class Brightness:
    """A graph whose label is the sixth of the range in which a picture's mean lies."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        assert outputs == ["label", "probability"]
        image_BHWC = inputs["image"]
        assert image_BHWC.dtype == np.uint8
        self.batches.append(image_BHWC.shape)
        label_B = (image_BHWC.mean((1, 2, 3)) * 6 / 256).astype(np.int64)
        distance_BC = np.abs(label_B[:, None] - np.arange(6))
        weight_BC = np.exp(-distance_BC.astype(np.float32))
        return [label_B, weight_BC / weight_BC.sum(1, keepdims=True)]


@pytest.fixture
def graph() -> Brightness:
    return Brightness()


@pytest.fixture
def predictor(tmp_path: Path, graph: Brightness) -> ImageClassificationPredictor:
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (tmp_path / "picture.json").write_text(json.dumps({"height": 4, "width": 6, "channels": 3}))
    return ImageClassificationPredictor({"classify": graph}, tmp_path, {})


def grey(value: int, size: tuple[int, int] = (6, 4)) -> str:
    return data_url(np.full((size[1], size[0], 3), value, np.uint8))


def test_answer_is_the_label_with_the_five_most_probable_ones(predictor: ImageClassificationPredictor) -> None:
    (answer,) = predictor.predict([grey(255)])
    assert answer["label"] == "white"
    assert list(answer["probabilities"]) == ["white", "pale", "light", "grey", "dark"]
    assert answer["probabilities"]["white"] == pytest.approx(0.6337, abs=1e-4)
    assert json.loads(json.dumps(answer)) == answer


def test_answers_keep_the_order_of_inputs_over_several_batches(
    predictor: ImageClassificationPredictor, graph: Brightness
) -> None:
    values = [i * 37 % 256 for i in range(BATCH + 3)]
    answers = predictor.predict([grey(value) for value in values])
    assert [answer["label"] for answer in answers] == [LABELS[value * 6 // 256] for value in values]
    assert graph.batches == [(BATCH, 4, 6, 3), (3, 4, 6, 3)]
    assert predictor.count_units(answers) == BATCH + 3


def test_no_inputs_give_no_answers(predictor: ImageClassificationPredictor, graph: Brightness) -> None:
    assert predictor.predict([]) == []
    assert graph.batches == []


@pytest.mark.parametrize(("suffix", "kind"), [("png", "RGB"), ("png", "L"), ("png", "RGBA"), ("jpg", "RGB")])
def test_files_of_any_size_and_colour_are_brought_to_the_models(
    predictor: ImageClassificationPredictor, graph: Brightness, tmp_path: Path, suffix: str, kind: str
) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.new("L", (31, 17), 255).convert(kind).save(path)
    (answer,) = predictor.predict([str(path)])
    assert answer["label"] == "white"
    assert graph.batches == [(1, 4, 6, 3)]


def test_picture_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn it a quarter clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    found = open_picture(str(tmp_path / "turned.png"), 1)[..., 0]
    assert np.array_equal(found, np.rot90(np.asarray(picture), -1))


def broken(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def gif() -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/no/such/file.png", r"/no/such/file\.png: no such file"),
        ("/tmp", "/tmp: "),
        (broken(b"text"), "neither a PNG nor a JPEG picture"),
        (broken(gif(), "image/gif"), "neither a PNG nor a JPEG picture"),
        (broken(base64.b64decode(grey(3).partition(",")[2])[:50]), "broken PNG or JPEG picture"),
        ("data:image/png,plain", "not base64; give data:image/png;base64"),
        ("data:image/png;base64,???", "not base64"),
        (broken(b""), "neither a PNG nor a JPEG picture"),
    ],
)
def test_what_is_no_picture_is_one_clear_line(predictor: ImageClassificationPredictor, text: str, words: str) -> None:
    with pytest.raises(ModelpressError, match=words) as raised:
        predictor.predict([text])
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


@given(data=st.data())
def test_damaged_picture_is_read_or_refused_but_breaks_nothing(data: st.DataObject) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(pixels).save(file, data.draw(st.sampled_from(["PNG", "JPEG"])), exif=exif)
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = open_picture(broken(bytes(content)), 3, (8, 8))
    except ModelpressError:
        return
    assert (found.shape, found.dtype) == ((8, 8, 3), np.uint8)


def test_picture_of_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    head = struct.pack(">II5B", 9000, 9000, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", head), (b"IDAT", b"x"))
    ]
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
    with pytest.raises(ModelpressError, match="9000 x 9000 pixels"):
        open_picture(f"data:image/png;base64,{data}", channels=3)
