"""Data sets, split once into train, validation and test."""

from sqtune.data.spec import (
    Cifar,
    Data,
    DataFactory,
    Digits,
    ImageFolder,
    ImageNet,
    known_channels,
    known_image_size,
)

__all__ = [
    "Cifar",
    "Data",
    "DataFactory",
    "Digits",
    "ImageFolder",
    "ImageNet",
    "known_channels",
    "known_image_size",
]
