"""How figures are written for people: errors, sizes, counts, times."""

from __future__ import annotations

from sqtune.search.pareto import standard_error


def percent(error: float, num_images: int | None = None) -> str:
    """Return an error (0..1) in percent, with its standard error where the images are known.

    >>> percent(0.02, 449)
    '2.00 ± 0.66'
    """
    text = f"{100 * error:.2f}"
    if num_images:
        text += f" ± {100 * standard_error(error, num_images):.2f}"
    return text


def measured(error: float, num_images: int | None) -> str:
    """Return an error (0..1) with its unit and, where they are known, spread and images.

    >>> measured(0.02, 449), measured(0.02, None)
    ('2.00 ± 0.66 % of 449 images', '2.00 %')
    """
    of = f" of {num_images:,} images" if num_images else ""
    return f"{percent(error, num_images)} %{of}"


def kib(size_bytes: int | None) -> str:
    """Return a size in KiB (1,024 bytes), a smaller one in bytes.

    >>> kib(20_480), kib(10)
    ('20.0 KiB', '10 bytes')
    """
    if size_bytes is None:
        return "?"
    return f"{size_bytes} bytes" if size_bytes < 1024 else f"{size_bytes / 1024:.1f} KiB"


def count_text(number: float | None) -> str:
    """Return a large count with three digits and its unit.

    >>> count_text(41_599_616), count_text(1_331_187_712), count_text(950), count_text(None)
    ('41.6M', '1.33G', '950', '?')
    """
    if number is None:
        return "?"
    units = ("", "k", "M", "G", "T")
    power = 0
    while number >= 999.5 and power < len(units) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.3g}{units[power]}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun.

    >>> plural(1, "trial"), plural(1200, "trial")
    ('1 trial', '1,200 trials')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Return a time as minutes:seconds, or hours:minutes:seconds.

    >>> duration(83), duration(3700)
    ('1:23', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
