"""Networks that somebody's own code builds: `network: {factory: "mypackage.nets:build", ...}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from torch import nn

from sqtune.errors import ConfigError, NetworkError
from sqtune.factories import call_arguments, last_line, load_callable, source_sha256
from sqtune.networks.attempt import check_logits, evaluated, trained
from sqtune.networks.spec import Factory, Network

FIELD = "trial.network.factory"
REMEDY = (
    "Let it return a module that maps float images (N x in_channels x height x width) to logits "
    "(N x num_classes): a factory that takes in_channels, num_classes or image_size is told them."
)

_built: WeakSet[nn.Module] = WeakSet()


def check_factory(network: Factory) -> None:
    """Import a factory and hold its arguments against its signature, without calling it.

    Raises:
        ConfigError: There is no such function, importing it fails, or it does not take `args`.
    """
    _call(network, 3, 10, (32, 32))


def factory_model(
    network: Factory, in_channels: int, num_classes: int, image_size: tuple[int, int]
) -> nn.Module:
    """Call a factory and try what it builds on two images of the given size.

    Raises:
        ConfigError: There is no such function, importing it fails, or it does not take `args`.
        NetworkError: It fails, or what it builds is no network for such images and classes.
    """
    function, arguments = _call(network, in_channels, num_classes, image_size)
    place = f"{FIELD}: {network.factory}"
    try:
        model = function(**arguments)
    except (Exception, SystemExit) as error:
        raise NetworkError(f"{place} failed: {last_line(error)}. Mend it, or its args.") from error
    if not isinstance(model, nn.Module):
        raise NetworkError(
            f"{place} returned a {type(model).__name__}, not a torch.nn.Module. {REMEDY}"
        )
    if model in _built:
        raise NetworkError(
            f"{place} returned a module that it had returned before, whose weights may be trained. "
            "Let it make a new one in each call."
        )
    _built.add(model)
    _check(model, in_channels, num_classes, image_size, place)
    return model


def _check(
    model: nn.Module, in_channels: int, num_classes: int, image_size: tuple[int, int], place: str
) -> None:
    """Raise NetworkError unless a model gives logits when it evaluates and when it trains."""
    try:
        found = evaluated(model, in_channels, image_size)
        in_training = trained(model, in_channels, image_size)
    except Exception as error:
        height, width = image_size
        raise NetworkError(
            f"{place} built a network that fails on images of {in_channels} x {height} x {width}: "
            f"{last_line(error)}. {REMEDY}"
        ) from error
    check_logits(found, num_classes, f"{place} built a network that", REMEDY)
    who = f"{place} built a network that, while it trains,"
    check_logits(in_training, num_classes, who, REMEDY)


def code_of(network: Network) -> dict[str, str] | None:
    """Return which code, beside sqtune's and torch's, builds a network; None where none does.

    Raises:
        ConfigError: There is no such function, or importing it fails.
    """
    if not isinstance(network, Factory):
        return None
    sha256 = source_sha256(network.factory, FIELD)
    return {"factory": network.factory, "source_sha256": sha256}


def refuse_unasked(network: Network, place: str, *, run_factory: bool) -> None:
    """Raise ConfigError where reading a file would run code that the file names, unasked.

    Args:
        network: Of the file.
        place: The file, for the message.
        run_factory: Whether the caller allows it.
    """
    if isinstance(network, Factory) and not run_factory:
        raise ConfigError(
            f"{place}: its network is built by {network.factory}: loading it runs that code with "
            "arguments from the file. Where you trust both, allow it: --run-factory, or "
            "sqtune.load(..., run_factory=True)."
        )


def _call(
    network: Factory, in_channels: int, num_classes: int, image_size: tuple[int, int]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the factory and what it is called with."""
    function = load_callable(network.factory, FIELD)
    offered = {"in_channels": in_channels, "num_classes": num_classes, "image_size": image_size}
    return function, call_arguments(function, network.args, offered, FIELD)
