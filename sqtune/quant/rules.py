"""Which quantizer acts on which layer. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqtune.errors import QuantizationError
from sqtune.quant.spec import LayerRule, Quantizer


def assign_quantizers(
    names: Sequence[str], default: Quantizer, rules: Sequence[LayerRule]
) -> dict[str, Quantizer]:
    """Return each layer's quantizer by module name: the first rule that matches, else the default.

    Raises:
        QuantizationError: A rule gives no layer its quantizer; the message lists the names.

    >>> from sqtune.quant import Binary, Float
    >>> assign_quantizers(["stem", "group1.0.conv1"], Binary(), [LayerRule("group1", Float())])
    {'stem': Binary(name='binary'), 'group1.0.conv1': Float(name='float')}
    """
    assigned: dict[str, Quantizer] = {}
    for rule in rules:
        matching = [name for name in names if matches(rule.match, name)]
        taken = [name for name in matching if name not in assigned]
        if not taken:
            problem = (
                f"{', '.join(matching)}: an earlier rule has it already" if matching else "no layer"
            )
            raise QuantizationError(
                f"the rule {rule.match!r} matches {problem}. The layers are: {', '.join(names)}."
            )
        assigned.update(dict.fromkeys(taken, rule.quantizer))
    return {name: assigned.get(name, default) for name in names}


def matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern is the whole name of a module or of one around it."""
    parts = name.split(".")
    around = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return any(re.fullmatch(pattern, whole) for whole in around)
