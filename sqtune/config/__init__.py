"""Configuration: frozen data, checked once at the border."""

from sqtune.config.load import load_space
from sqtune.config.parameters import label
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig

__all__ = ["SearchSpace", "TrialConfig", "label", "load_space"]
