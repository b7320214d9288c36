"""Whether each rule of a configuration gives some layer its quantizer. Imports torch when asked."""

from __future__ import annotations

from functools import cache

from sqtune.config.paths import Keys
from sqtune.config.trial import TrialConfig
from sqtune.data import known_channels, known_image_size
from sqtune.errors import QuantizationError
from sqtune.networks import Factory, Network, Torchvision, smallest_image
from sqtune.quant.rules import assign_quantizers

# Where only the images tell their size: the names of layers do not depend on it.
ANY_SIZE_FOR_TORCHVISION = 224


def useless_rule(config: TrialConfig) -> tuple[Keys, str] | None:
    """Return the first rule that gives no layer its quantizer, and why; None where all act.

    Factories are not called: what they build may depend on the data, with which rules are checked.

    Raises:
        NetworkError: The network cannot be built.
    """
    if not config.rules or isinstance(config.network, Factory):  # which only data can tell
        return None
    large = isinstance(config.network, Torchvision)
    any_size = ANY_SIZE_FOR_TORCHVISION if large else smallest_image(config.network)
    image_size = known_image_size(config.data) or (any_size, any_size)
    names = layer_names(config.network, known_channels(config.data) or 3, image_size)
    for count in range(1, len(config.rules) + 1):
        try:
            assign_quantizers(names, config.quantizer, config.rules[:count])
        except QuantizationError as error:
            return _keys(config, count - 1), str(error)
    return None


@cache
def layer_names(network: Network, in_channels: int, image_size: tuple[int, int]) -> tuple[str, ...]:
    """Return the names of the modules that can be quantized, in the network's own order."""
    import torch

    from sqtune.networks import build
    from sqtune.quant import quantizable_weights

    with torch.random.fork_rng(devices=[]):
        model = build(network, in_channels, 2, image_size)
    return tuple(name.rpartition(".")[0] for name in quantizable_weights(model))


def _keys(config: TrialConfig, index: int) -> Keys:
    """Return where a rule stands in the configuration."""
    num_kept = len(config.keep_float)
    if index < num_kept:
        return ("keep_float", index)
    return ("overrides", index - num_kept, "match")
