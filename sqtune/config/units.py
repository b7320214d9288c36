"""Numbers with units, as people write them in space files and on the command line."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

NUMBER = r"\s*((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*"
SIZES = {"": 1, "B": 1, "kB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20}
SIZES |= {"GiB": 2**30}
COUNTS = {"": 1, "k": 1000, "M": 10**6, "G": 10**9}
SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def _parse(text: str | float, units: dict[str, int], what: str, examples: str) -> float:
    match = re.fullmatch(NUMBER, str(text))
    known = {unit.lower(): factor for unit, factor in units.items()}
    if match is None or match[2].lower() not in known:
        names = ", ".join(unit for unit in units if unit)
        raise ValueError(f"{text!r} is not {what}: write a number and {names}, such as {examples}.")
    value = float(match[1]) * known[match[2].lower()]
    if not 0 < value < 2**60:
        rule = "above 0" if value <= 0 else "below 2 to the power of 60"
        raise ValueError(f"{text!r} is not {what}: it must be {rule}.")
    return value


def _whole(text: str | int, units: dict[str, int], what: str, examples: str) -> int:
    value = int(_parse(text, units, what, examples))
    if value < 1:
        raise ValueError(f"{text!r} is not {what}: it must be 1 at least.")
    return value


def parse_size(text: str | int) -> int:
    """Return the bytes of a size such as 64KiB, 20kB, 1.5MiB or 4096.

    Raises:
        ValueError: It is none.

    >>> parse_size("64KiB"), parse_size("20kB"), parse_size("4096")
    (65536, 20000, 4096)
    """
    return _whole(text, SIZES, "a size", "64KiB")


def parse_count(text: str | int) -> int:
    """Return a count such as 20M or 500k.

    Raises:
        ValueError: It is none.

    >>> parse_count("20M"), parse_count(1500)
    (20000000, 1500)
    """
    return _whole(text, COUNTS, "a count", "20M")


def parse_duration(text: str | float) -> float:
    """Return the seconds of a time such as 2h, 90min or 45; a bare number is in seconds.

    Raises:
        ValueError: It is none.

    >>> parse_duration("2h"), parse_duration("90min"), parse_duration("45")
    (7200.0, 5400.0, 45.0)
    """
    return _parse(text, SECONDS, "a time", "2h or 90min")


def parse_share(text: str | float) -> float:
    """Return an error (0..1) written as 1% or 0.01.

    Raises:
        ValueError: It is neither a percentage nor a number in (0, 1).

    >>> parse_share("1%"), parse_share("0.03")
    (0.01, 0.03)
    """
    stripped = str(text).strip()
    try:
        number, factor = (stripped[:-1], 100) if stripped.endswith("%") else (stripped, 1)
        share = float(number) / factor
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise ValueError(f"{text!r} is not an error: write 1% or 0.01, above 0 and below 100%.")
    return share


def _strict(parse: Any, examples: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"a number is needed here, such as {examples}, not {value!r}.")
        return parse(value)

    return BeforeValidator(check, json_schema_input_type=str | float)


Size = Annotated[int, Field(gt=0), _strict(parse_size, "64KiB")]
Count = Annotated[int, Field(gt=0), _strict(parse_count, "20M")]
Seconds = Annotated[float, Field(gt=0), _strict(parse_duration, "2h or 90min")]
ErrorShare = Annotated[float, Field(gt=0, lt=1), _strict(parse_share, "1% or 0.01")]
