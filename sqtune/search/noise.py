"""What is noise: a difference whose 95 % interval over the seeds has 0 in it, by Student's t."""

from __future__ import annotations

FEWEST_SEEDS = 3  # from which on a lead is called one


def reach(standard_error: float, degrees: float) -> float:
    """Return how far the 95 % interval of a mean reaches to either side of it.

    >>> round(reach(1.0, 2), 2)
    4.3

    Args:
        standard_error: Of the mean.
        degrees: Of freedom, above 0.
    """
    from scipy import stats

    return float(stats.t.ppf(0.975, degrees)) * standard_error


def is_noise(difference: float, spreads: tuple[float, float], seeds: tuple[int, int]) -> bool:
    """Tell whether two means differ by no more than noise (Welch's test).

    >>> is_noise(0.4, (0.1, 0.1), (5, 5)), is_noise(0.4, (0.1, 0.1), (3, 3))
    (False, False)
    >>> is_noise(0.4, (0.1, 0.1), (2, 3)), is_noise(0.0, (0.0, 0.0), (3, 3))
    (True, True)

    Args:
        difference: Of the means.
        spreads: Standard error of each.
        seeds: Two or more of each.
    """
    variances = [spread**2 for spread in spreads]
    total = sum(variances)
    if total == 0:
        return difference == 0
    each = zip(variances, seeds, strict=True)
    degrees = total**2 / sum(variance**2 / (count - 1) for variance, count in each)
    return abs(difference) <= reach(total**0.5, degrees)
