from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from components.data.image_augmentation import Augmentation, augment


def numbered(count: int, height: int, width: int, channels: int) -> Tensor:
    """Return pictures whose points all differ, as far as bytes do."""
    return (torch.arange(count * height * width * channels) % 251).to(torch.uint8).view(count, height, width, channels)


def views(image_HWC: Tensor, config: Augmentation, count: int) -> set[bytes]:
    torch.manual_seed(0)
    copies = image_HWC[None].expand(count, -1, -1, -1)
    return {view.numpy().tobytes() for view in augment(copies, config)}


def test_pictures_stay_as_they_are_when_nothing_is_asked_for() -> None:
    images = numbered(3, 5, 7, 2)
    assert torch.equal(augment(images, Augmentation()), images)


def test_horizontal_flip_shows_both_sides_and_no_other_view() -> None:
    image = numbered(1, 4, 5, 3)[0]
    assert views(image, Augmentation(flip="horizontal"), 32) == {
        image.numpy().tobytes(),
        image.flip(1).contiguous().numpy().tobytes(),
    }


def test_dihedral_flip_shows_all_eight_views() -> None:
    image = numbered(1, 5, 5, 3)[0]
    turned = [torch.rot90(image, k, (0, 1)) for k in range(4)]
    expected = {view.contiguous().numpy().tobytes() for side in turned for view in (side, side.flip(1))}
    assert len(expected) == 8
    assert views(image, Augmentation(flip="dihedral"), 128) == expected


def test_dihedral_flip_refuses_pictures_that_are_not_square() -> None:
    with pytest.raises(ValueError, match="dihedral needs square pictures, these are 7 x 5"):
        augment(numbered(1, 5, 7, 1), Augmentation(flip="dihedral"))


def test_shift_moves_along_both_axes_and_mirrors_at_the_edges() -> None:
    image = numbered(1, 5, 6, 1)[0]
    rows, columns = ([1, 0, *range(1, size - 1)] for size in (5, 6))  # moved by one: 1 0 1 2 3
    moved = image[rows][:, columns].contiguous()
    found = views(image, Augmentation(shift=1), 128)
    assert len(found) == 9
    assert moved.numpy().tobytes() in found


def test_cutout_covers_a_square_of_each_picture_with_its_mean() -> None:
    image = torch.full((9, 9, 3), 200, dtype=torch.uint8)
    image[::2] = 0
    copies = image[None].expand(400, -1, -1, -1)
    torch.manual_seed(0)
    found = augment(copies, Augmentation(cutout=4))
    covered = (found != copies).any(-1)
    sizes = {(int(one.any(1).sum()), int(one.any(0).sum())) for one in covered}
    assert sizes == {(rows, columns) for rows in (2, 3, 4) for columns in (2, 3, 4)}  # parts at the edges
    assert all(one.sum() == one.any(1).sum() * one.any(0).sum() for one in covered)
    assert covered.any(0).all(), "anywhere in the picture"
    assert set(found[covered].flatten().tolist()) == {int(image.float().mean())}


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(3, 9), st.sampled_from([1, 3])),
    shift=st.integers(0, 2),
    flip=st.sampled_from(["none", "horizontal", "dihedral"]),
    seed=st.integers(0, 2**32),
)
def test_views_have_the_shape_and_values_of_their_own_picture(
    shape: tuple[int, int, int], shift: int, flip: str, seed: int
) -> None:
    count, size, channels = shape
    images = torch.randint(0, 256, (count, size, size, channels), generator=torch.Generator().manual_seed(seed))
    images = images.to(torch.uint8)
    torch.manual_seed(seed)
    found = augment(images, Augmentation(shift=shift, flip=flip))
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    for view, image in zip(found, images, strict=True):
        points = {tuple(point) for point in image.view(-1, channels).tolist()}
        assert {tuple(point) for point in view.reshape(-1, channels).tolist()} <= points


def test_same_seed_gives_the_same_views() -> None:
    images = numbered(8, 6, 6, 3)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(augment(images, Augmentation(shift=2, flip="dihedral")))
    assert torch.equal(*drawn)
