"""Configuration: frozen data, checked once at the border."""

from sqtune.config.load import load_space
from sqtune.config.space import SearchSpace, label
from sqtune.config.trial import TrialConfig

__all__ = ["SearchSpace", "TrialConfig", "label", "load_space"]
