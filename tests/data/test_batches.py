"""Batches: the generator decides alone, images stay with their labels, augmentation is uniform."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sqtune.data.batches import Normalize, random_crop, random_mirror, training_batches
from sqtune.data.split import Split

CPU = torch.device("cpu")


def numbered(count: int) -> Split:
    """Return images of which each one's pixels are all its number, as is its label."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8)[:, None, None, None].expand(count, 1, 4, 4).contiguous()
    return Split(images, labels)


def epoch(split, generator, batch_size=8, crop_padding=0, mirror=False):
    batches = training_batches(
        split,
        batch_size,
        crop_padding=crop_padding,
        mirror=mirror,
        device=CPU,
        generator=generator,
    )
    return list(batches)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("batch_size", "num_batches"), [(1, 50), (7, 7), (8, 6), (50, 1), (64, 1)])
def test_batches_are_whole_and_no_image_comes_twice(batch_size, num_batches):
    batches = epoch(numbered(50), seeded(0), batch_size)
    assert [len(labels) for _, labels in batches] == [min(batch_size, 50)] * num_batches
    labels = torch.cat([labels for _, labels in batches])
    assert len(labels.unique()) == len(labels)


@pytest.mark.parametrize(("crop_padding", "mirror"), [(0, False), (0, True), (1, True)])
def test_an_image_stays_with_its_label(crop_padding, mirror):
    for images, labels in epoch(numbered(50), seeded(0), 8, crop_padding, mirror):
        assert torch.equal(images.amax(dim=(1, 2, 3)).long(), labels)


def test_order_and_augmentation_depend_on_the_generator_alone():
    torch.manual_seed(1)
    first = epoch(numbered(50), seeded(3), 8, 2, True)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again = epoch(numbered(50), seeded(3), 8, 2, True)
    assert all(
        torch.equal(one, other)
        for a, b in zip(first, again, strict=True)
        for one, other in zip(a, b, strict=True)
    )
    torch.set_rng_state(state)
    other = epoch(numbered(50), seeded(4), 8, 2, True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


def test_the_next_epoch_has_another_order_and_leaves_out_other_images():
    generator = seeded(0)
    one, two = (torch.cat([y for _, y in epoch(numbered(50), generator)]) for _ in range(2))
    assert not torch.equal(one, two)
    assert set(one.tolist()) != set(two.tolist())


def test_augmentation_leaves_the_data_as_they_are():
    split = numbered(50)
    before = split.images.clone()
    for images, _ in epoch(split, seeded(0), 8, 2, True):
        images.zero_()
    assert torch.equal(split.images, before)


def test_every_offset_of_a_crop_is_equally_likely_and_drawn_for_each_image():
    num, padding = 9000, 1
    image = torch.arange(1, 33, dtype=torch.uint8).reshape(1, 2, 4, 4)
    crops = random_crop(image.expand(num, 2, 4, 4), padding, seeded(0))
    padded = torch.zeros(2, 6, 6, dtype=torch.uint8)
    padded[:, 1:5, 1:5] = image[0]
    counts = []
    for top in range(3):
        for left in range(3):
            window = padded[:, top : top + 4, left : left + 4]
            counts.append(int((crops == window).all(dim=(1, 2, 3)).sum()))
    assert sum(counts) == num
    assert all(abs(count - 1000) < 5 * (1000 * 8 / 9) ** 0.5 for count in counts)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 5), (2, 1, 9)])
@pytest.mark.parametrize("padding", [1, 4, 64])
def test_a_crop_is_a_window_of_the_padded_image(shape, padding):
    images = torch.randint(1, 256, (20, *shape), dtype=torch.uint8, generator=seeded(0))
    cropped = random_crop(images, padding, seeded(1))
    shifts = torch.randint(0, 2 * padding + 1, (2, 20), generator=seeded(1))
    height, width = shape[1:]
    for image, crop, (down, right) in zip(images, cropped, shifts.T.tolist(), strict=True):
        padded = functional.pad(image, (padding,) * 4)
        assert torch.equal(crop, padded[:, down : down + height, right : right + width])


def test_crops_of_images_with_gaps_in_memory():
    images = torch.randint(1, 256, (9, 4, 8, 8), dtype=torch.uint8, generator=seeded(0))
    views = images[::2, 1:3, :, ::2]
    cropped = random_crop(views, 2, seeded(1))
    assert torch.equal(cropped, random_crop(views.contiguous(), 2, seeded(1)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_images_pinned_beside_a_gpu_give_the_batches_of_the_cpu():
    split = Split(
        torch.randint(0, 256, (500, 3, 32, 32), dtype=torch.uint8, generator=seeded(0)),
        torch.arange(500),
    )
    pinned = Split(split.images.pin_memory(), split.labels.pin_memory())
    batches = training_batches(
        pinned,
        64,
        crop_padding=4,
        mirror=True,
        device=torch.device("cuda"),
        generator=seeded(2),
    )
    for (images, labels), there in zip(epoch(split, seeded(2), 64, 4, True), batches, strict=True):
        assert there[0].is_cuda
        assert there[1].is_cuda
        assert torch.equal(there[0].cpu(), images)
        assert torch.equal(there[1].cpu(), labels)


def test_padding_0_is_no_crop_and_draws_nothing():
    images = torch.randint(0, 256, (9, 1, 4, 4), dtype=torch.uint8, generator=seeded(0))
    assert torch.equal(random_crop(images, 0, seeded(1)), images)
    plain = [labels.tolist() for _, labels in epoch(numbered(50), seeded(0))]
    assert plain == seeded_permutation(50, 8)


def seeded_permutation(count: int, batch_size: int) -> list[list[int]]:
    order = torch.randperm(count, generator=seeded(0)).tolist()
    return [order[i : i + batch_size] for i in range(0, count - batch_size + 1, batch_size)]


def test_a_mirrored_image_is_flipped_left_to_right_in_all_channels():
    image = torch.arange(24, dtype=torch.uint8).reshape(1, 2, 3, 4)
    mirrored = random_mirror(image.expand(2000, 2, 3, 4), seeded(0))
    flipped = torch.tensor([[row[::-1] for row in channel] for channel in image[0].tolist()])
    is_flipped = (mirrored == flipped).all(dim=(1, 2, 3))
    assert ((mirrored == image).all(dim=(1, 2, 3)) | is_flipped).all()
    assert abs(int(is_flipped.sum()) - 1000) < 5 * 500**0.5


def test_normalised_images_have_mean_0_and_deviation_1_per_channel():
    images = torch.randint(0, 256, (500, 3, 4, 4), dtype=torch.uint8, generator=seeded(0))
    images[:, 1] //= 2
    pixels = images.double() / 255
    mean, std = (tuple(f(pixels, (0, 2, 3)).tolist()) for f in (torch.mean, torch.std))
    out = Normalize(mean, std, CPU)(images)
    assert out.dtype == torch.float32
    assert out.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert out.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    pixels = images.clone()
    Normalize(mean, std, CPU)(images)
    assert torch.equal(images, pixels)
    level = Normalize((0.5,), (0.25,), CPU)(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert level.flatten().tolist() == pytest.approx([-2, 2])
