from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.errors import ModelpressError
from components.data.readers import idx_images, image_folder

LABELS = ["cat", "dog"]
IDX = idx_images.Split(reader="idx_images", labels=LABELS, dev_per_class=1)
FOLDER = image_folder.Split(reader="image_folder", dev_per_class=1)


def idx(array: np.ndarray) -> bytes:
    """Return the gzipped IDX file of a uint8 array."""
    sizes = np.array(array.shape, ">u4").tobytes()
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 6), ("t10k", 4)):
        images = rng.integers(0, 256, (count, 3, 5), np.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(count, dtype=np.uint8) % 2))
    return tmp_path


def test_idx_files_give_pictures_with_a_channel_and_their_classes(digits: Path) -> None:
    labels, splits = idx_images.read(digits, IDX)
    assert labels == LABELS
    assert {name: images.shape for name, (images, _) in splits.items()} == {"train": (6, 3, 5, 1), "test": (4, 3, 5, 1)}
    assert splits["train"][1].tolist() == [0, 1, 0, 1, 0, 1]
    raw = gzip.decompress((digits / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert splits["test"][0].tobytes() == raw[16:]


# Each case has a name: a gzip file holds its time, and as a test's name that would differ from process to process.
@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"plain", "not a gzip file", id="not-gzip"),
        pytest.param(idx(np.zeros((4, 3, 5), np.uint8))[:-9], "not a gzip file", id="cut-short"),
        pytest.param(gzip.compress(b""), "not an IDX file of bytes with 3 axes", id="empty"),
        pytest.param(idx(np.zeros((4, 15), np.uint8)), "not an IDX file of bytes with 3 axes", id="2-axes"),
        pytest.param(
            gzip.compress(gzip.decompress(idx(np.zeros((4, 3, 5), np.uint8)))[:-1]), "not an IDX file", id="byte-short"
        ),
        pytest.param(idx(np.zeros((3, 3, 5), np.uint8)), "4 labels for 3 pictures", id="3-pictures"),
    ],
)
def test_malformed_idx_file_is_a_clear_error(digits: Path, data: bytes, words: str) -> None:
    (digits / "t10k-images-idx3-ubyte.gz").write_bytes(data)
    with pytest.raises(ModelpressError, match=words):
        idx_images.read(digits, IDX)


def test_missing_idx_file_and_class_without_label_are_clear_errors(digits: Path) -> None:
    (digits / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.full(4, 2, np.uint8)))
    with pytest.raises(ModelpressError, match=r"class 2, but 2 labels are named; name one .*split\.labels"):
        idx_images.read(digits, IDX)
    (digits / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ModelpressError, match="no such file; fetch"):
        idx_images.read(digits, IDX)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, numbers in (("train", range(3)), ("test", range(3, 5))):
        paths = [f"{label}/{label}_{number}.png" for label in ("river", "forest") for number in numbers]
        for path in paths:
            (tmp_path / path).parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).save(tmp_path / path)
        (tmp_path / f"{split}.txt").write_text("".join(f"{path}\n" for path in paths))
    return tmp_path


def test_image_folder_gives_the_listed_pictures_with_labels_in_order(photos: Path) -> None:
    labels, splits = image_folder.read(photos, FOLDER)
    assert labels == ["forest", "river"]
    assert splits["train"][0].shape == (6, 4, 6, 3)
    found = {image.tobytes(): labels[number] for image, number in zip(*splits["test"], strict=True)}
    paths = (photos / "test.txt").read_text().splitlines()
    assert found == {np.asarray(Image.open(photos / path)).tobytes(): path.split("/")[0] for path in paths}


def test_image_folder_mixes_the_classes_of_a_list_that_is_in_order(photos: Path) -> None:
    orders = set()
    for seed in range(8):
        _, splits = image_folder.read(photos, FOLDER.model_copy(update={"seed": seed}))
        again = image_folder.read(photos, FOLDER.model_copy(update={"seed": seed}))[1]
        assert all(np.array_equal(splits[name][0], again[name][0]) for name in splits)
        orders.add(tuple(splits["train"][1].tolist()))
    assert len(orders) > 1


def test_image_folder_gives_grey_pictures_when_asked(photos: Path) -> None:
    _, splits = image_folder.read(photos, FOLDER.model_copy(update={"channels": 1}))
    assert splits["test"][0].shape == (4, 4, 6, 1)


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("river/none.png", "river/none.png: no such file"),
        ("lake/lake_1.png", "lake/lake_1.png: no picture of this class in train.txt"),
        ("river/large.png", r"river/large.png: sizes differ \(6x4 and 8x8\)"),
        ("river/text.png", "river/text.png: neither a PNG nor a JPEG picture"),
    ],
)
def test_bad_entry_of_an_image_folder_is_a_clear_error(photos: Path, listed: str, words: str) -> None:
    (photos / "lake").mkdir()
    Image.new("RGB", (6, 4)).save(photos / "lake" / "lake_1.png")
    Image.new("RGB", (8, 8)).save(photos / "river" / "large.png")
    (photos / "river" / "text.png").write_text("no picture")
    (photos / "test.txt").write_text(f"river/river_3.png\n{listed}\n")
    with pytest.raises(ModelpressError, match=words):
        image_folder.read(photos, FOLDER)
