"""Cutout, random erasing and mixup: pixel by pixel against plain loops, and their distributions."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from sqtune.data.augment import cut_out, erase, mixed, mixing_shares

FILL = torch.tensor([7, 200], dtype=torch.uint8)[:, None, None]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(num: int, height: int = 6, width: int = 9) -> torch.Tensor:
    """Return images of two channels in which no pixel is like the filling."""
    return torch.randint(8, 200, (num, 2, height, width), dtype=torch.uint8, generator=seeded(9))


def filled(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return which pixels were filled (N x H x W); all others are as before, in all channels."""
    inside = (after == FILL).any(dim=1)
    expected = torch.where(inside[:, None], FILL, before)
    assert torch.equal(after, expected)
    return inside


def sides(inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return height and width of what is filled in each image: whole rectangles."""
    rows, columns = inside.any(dim=2), inside.any(dim=1)
    assert torch.equal(inside, rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):  # without gaps: at most one beginning
        assert (line[:, 1:] & ~line[:, :-1]).sum(dim=1).add(line[:, 0]).max() <= 1
    return rows.sum(dim=1), columns.sum(dim=1)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_a_square_is_cut_out_around_a_pixel(side):
    before = images(40)
    kept = before.clone()
    after = cut_out(before, side, FILL, seeded(1))
    again = seeded(1)
    centres = [torch.randint(0, length, (40,), generator=again).tolist() for length in (6, 9)]
    expected = before.clone()
    for number, (row, column) in enumerate(zip(*centres, strict=True)):
        for y in range(row - side // 2, row - side // 2 + side):
            for x in range(column - side // 2, column - side // 2 + side):
                if 0 <= y < 6 and 0 <= x < 9:
                    expected[number, :, y, x] = FILL[:, 0, 0]
    assert torch.equal(after, expected)
    assert torch.equal(before, kept)


def test_the_centre_of_a_square_is_any_pixel_with_equal_chances():
    before = images(5400)
    inside = filled(before, cut_out(before, 1, FILL, seeded(0)))
    counts = inside.sum(dim=0)
    assert counts.sum() == 5400
    assert ((counts - 100).abs() < 5 * (100 * 53 / 54) ** 0.5).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_so_many_images_are_erased(probability):
    before = images(4000)
    inside = filled(before, erase(before, probability, FILL, seeded(0)))
    num = int(inside.any(dim=(1, 2)).sum())
    assert abs(num - 4000 * probability) <= 5 * (4000 * probability * (1 - probability)) ** 0.5


def test_an_erased_rectangle_has_the_areas_aspects_and_places_it_should():
    before = images(4000, 40, 40)
    inside = filled(before, erase(before, 1.0, FILL, seeded(0)))
    heights, widths = sides(inside)
    area = (heights * widths) / 1600
    assert stats.kstest(area.numpy(), stats.uniform(0.02, 0.31).cdf).statistic < 0.03
    logarithm = (heights / widths).log()
    assert logarithm.min() > -1.45  # log 0.3 is -1.2; sides are rounded
    assert logarithm.max() < 1.45
    assert abs(float(logarithm.mean())) < 0.05
    assert float(logarithm.std()) == pytest.approx(2.398 / 12**0.5, rel=0.05)  # a uniform one's
    for lengths, line in ((heights, inside.any(dim=2)), (widths, inside.any(dim=1))):
        first = line.int().argmax(dim=1)
        room = 40 - lengths
        assert (first <= room).all()
        some = room > 5
        place = (first[some] + 0.5) / (room[some] + 1)  # uniform among the places there are
        assert float(place.mean()) == pytest.approx(0.5, abs=0.02)
        assert (first == 0).any()
        assert (first == room).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 12), (3, 2)])
def test_small_and_narrow_images_are_erased_within_their_bounds(size):
    before = images(500, *size)
    heights, widths = sides(filled(before, erase(before, 1.0, FILL, seeded(3))))
    assert heights.min() >= 1
    assert widths.min() >= 1


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 8.0, 100.0])
def test_shares_are_those_of_the_beta_distribution(alpha):
    share_N = mixing_shares(4000, alpha, seeded(0))
    assert share_N.dtype == torch.float32
    assert ((share_N >= 0) & (share_N <= 1)).all()
    if alpha < 0.1:  # nearly all are so close to 0 or 1 that float32 has no room for the law
        assert abs(int((share_N < 0.5).sum()) - 2000) < 5 * 1000**0.5
        inner = stats.beta(alpha, alpha).cdf(0.9) - stats.beta(alpha, alpha).cdf(0.1)
        found = float(((share_N > 0.1) & (share_N < 0.9)).float().mean())
        assert found == pytest.approx(inner, abs=5 * (inner / 4000) ** 0.5)
        return
    assert stats.kstest(share_N.double().numpy(), stats.beta(alpha, alpha).cdf).statistic < 0.03


def test_an_image_is_mixed_with_the_one_before_it():
    before = images(3)
    share_N = torch.tensor([1.0, 0.25, 0.5])
    after = mixed(before, share_N)
    assert after.dtype == torch.float32
    assert torch.equal(after[0], before[0].float())
    assert torch.allclose(after[1], 0.25 * before[1].float() + 0.75 * before[0].float())
    assert torch.allclose(after[2], 0.5 * before[2].float() + 0.5 * before[1].float())
    assert torch.allclose(mixed(before, torch.zeros(3)), before.float()[[2, 0, 1]])


def test_the_generator_decides_alone():
    torch.manual_seed(1)
    before = images(30)

    def all_of_it(seed):
        generator = seeded(seed)
        cut = cut_out(before, 3, FILL, generator)
        erased = erase(cut, 0.5, FILL, generator)
        return mixed(erased, mixing_shares(30, 0.5, generator))

    state = torch.get_rng_state()
    first = all_of_it(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(all_of_it(5), first)
    assert not torch.equal(all_of_it(6), first)
