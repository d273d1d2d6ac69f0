from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.errors import ConfigError, ModelpressError
from components.core.files import read_json, sha256_tree
from components.data.image_dataset import ImageDataset, data_url, mean_and_deviation, prepare_images
from components.inference.image_classification import open_picture

SPLIT: dict[str, Any] = {"reader": "image_folder", "dev_per_class": 2, "seed": 1}


def write_photos(raw: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Write pictures (N, H, W, 3) as files of two classes in turn, with their lists."""
    for split, images in (("train", train), ("test", test)):
        paths = [f"{'cat' if i % 2 else 'dog'}/{split}_{i}.png" for i in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            (raw / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(raw / path)
        (raw / f"{split}.txt").write_text("".join(f"{path}\n" for path in paths))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (26, 6, 6, 3), np.uint8)
    write_photos(tmp_path / "photos", images[:20], images[20:])
    return tmp_path / "photos"


def load(out: Path) -> dict[str, ImageDataset]:
    return {split: ImageDataset.load(out, split) for split in ("train", "dev", "test")}


def test_dev_holds_as_many_of_each_class_and_comes_out_of_train(photos: Path, tmp_path: Path) -> None:
    facts = prepare_images(photos, tmp_path / "out", SPLIT)
    splits = load(tmp_path / "out")
    assert facts["pictures"] == {"train": 16, "dev": 4, "test": 6}
    assert sorted(splits["dev"].references()) == ["cat", "cat", "dog", "dog"]
    seen = [image.tobytes() for data in splits.values() for image in data.images]
    assert len(set(seen)) == 26


def test_prepare_gives_the_same_bytes_twice_and_another_dev_for_another_seed(photos: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        prepare_images(photos, tmp_path / name, {**SPLIT, "seed": seed})
    digests = [sha256_tree(tmp_path / name) for name in ("one", "two", "three")]
    assert digests[0] == digests[1] != digests[2]


def test_pictures_that_occur_in_a_later_judged_split_leave_the_earlier_one(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (26, 6, 6, 3), np.uint8)
    train, test = images[:20], images[20:].copy()
    test[0] = train[7]  # and two of train's own twins, of which one may be drawn for dev
    train[10:18] = train[0:8]
    write_photos(tmp_path / "photos", train, test)
    facts = prepare_images(tmp_path / "photos", tmp_path / "out", SPLIT)
    splits = {name: {image.tobytes() for image in data.images} for name, data in load(tmp_path / "out").items()}
    assert not splits["train"] & splits["dev"]
    assert not (splits["train"] | splits["dev"]) & splits["test"]
    assert facts["pictures"]["test"] == 6
    assert facts["left_out"] >= 2


def test_mean_and_deviation_are_those_of_the_training_pictures_alone(photos: Path, tmp_path: Path) -> None:
    prepare_images(photos, tmp_path / "out", SPLIT)
    images = np.asarray(load(tmp_path / "out")["train"].images, np.float64)
    facts = read_json(tmp_path / "out" / "images.json")
    assert facts["mean"] == [round(images.mean())] * 3  # one byte, that an int8 graph can pad with
    np.testing.assert_allclose(facts["deviation"], images.std((0, 1, 2)), atol=1e-6)


def test_deviation_of_a_single_grey_is_no_zero() -> None:
    assert mean_and_deviation(np.full((2, 3, 3, 1), 7, np.uint8)) == ([7.0], [1.0])


def test_assets_say_labels_and_size(photos: Path, tmp_path: Path) -> None:
    prepare_images(photos, tmp_path / "out", SPLIT)
    assert (tmp_path / "out" / "assets" / "labels.txt").read_text() == "cat\ndog\n"
    assert read_json(tmp_path / "out" / "assets" / "picture.json") == {"channels": 3, "height": 6, "width": 6}


def test_too_large_a_dev_and_an_unknown_reader_are_clear_errors(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelpressError, match=r"datasets\.photos\.split\.dev_per_class: 10 of class 0, which has 10"):
        prepare_images(photos, tmp_path / "out", {**SPLIT, "dev_per_class": 10})
    with pytest.raises(ConfigError, match="no such reader 'image_foldr', did you mean image_folder"):
        prepare_images(photos, tmp_path / "out", {**SPLIT, "reader": "image_foldr"})
    with pytest.raises(ConfigError, match=r"datasets\.photos\.split\.dev_per_clas: unknown key"):
        prepare_images(photos, tmp_path / "out", {**SPLIT, "dev_per_clas": 1})


@pytest.mark.parametrize("channels", [1, 3])
def test_data_url_gives_the_picture_back(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    assert np.array_equal(open_picture(data_url(image), channels), image)


@pytest.fixture
def dataset() -> ImageDataset:
    images = np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2, 1)
    return ImageDataset(images, np.array([0, 1, 1, 0]), ["cat", "dog"])


def test_batch_holds_pictures_classes_and_a_view_of_its_own(dataset: ImageDataset) -> None:
    images, classes, view = dataset.collate([dataset[2], dataset[0]])
    assert (images.dtype, classes.dtype) == (torch.uint8, torch.int64)
    assert torch.equal(images, torch.from_numpy(dataset.images[[2, 0]]))
    assert torch.equal(images, view)
    assert classes.tolist() == [1, 0]
    view.zero_()
    assert images.any()


def test_answers_become_targets_and_datasets_join(dataset: ImageDataset) -> None:
    told = dataset.with_targets([{"label": label, "probabilities": {}} for label in ("dog", "dog", "cat", "cat")])
    joined = dataset + told
    assert joined.references() == ["cat", "dog", "dog", "cat", "dog", "dog", "cat", "cat"]
    assert np.array_equal(joined.images[4:], dataset.images)
