"""The errors a person can mend; every message says place, rule, value and next step.

SqtuneError                 the command line prints it and ends with exit code 2
  ConfigError               a space file, an override or a trial's configuration
  DataError                 a data set that is missing, unreadable or too small
  QuantizationError         a quantizer, selection or schedule that cannot act (also a ValueError)
  NetworkError              a network that does not suit its input (also a ValueError)
  StoreError                a store that is in use, unreadable or not writable
  StudyError                a study that is unknown, or whose space has changed
  ResourceError             more CPUs or GPUs than there are
  ClusterError              a Ray cluster that does not answer, or a node that does not suit
  TrackingError             a tracking store that does not answer
  TrainingError             a trial that cannot go on, for example a loss that is not finite
  ExportError               a network that cannot be exported, or a file that is not as it was made

StageBusy                   no error: another training is at work on the stage; come back later
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SqtuneError(Exception):
    """Base of all errors that a person can mend."""


class ConfigError(SqtuneError):
    """A space file, an override or a configuration breaks a rule."""


class DataError(SqtuneError):
    """A data set is missing, unreadable or unsuitable."""


class QuantizationError(SqtuneError, ValueError):
    """A quantizer, a selection or a schedule cannot act on what it was given."""


class NetworkError(SqtuneError, ValueError):
    """A network does not suit its input."""


class StoreError(SqtuneError):
    """A store is in use, unreadable or not writable."""


class WriteError(StoreError):
    """Something cannot be written now, as on a full disk; later the same may succeed."""


class StudyError(SqtuneError):
    """A study is unknown, or its space has changed."""


class ResourceError(SqtuneError):
    """More CPUs or GPUs were asked for than there are."""


class ClusterError(SqtuneError):
    """A Ray cluster does not answer, or one of its nodes does not suit the driver."""


class TrackingError(SqtuneError):
    """The tracking store does not answer."""


class TrainingError(SqtuneError):
    """A trial cannot go on; the study does."""


class ExportError(SqtuneError):
    """A network cannot be exported, or an exported file is damaged or gives other predictions."""


class StageBusy(Exception):  # noqa: N818
    """Another training is at work on the stage that this one needs next; come back later.

    Args:
        key: Of the stage's last epoch.
        owner: Who trains it.
    """

    def __init__(self, key: str, owner: str) -> None:
        super().__init__(key, owner)
        self.key, self.owner = key, owner

    def __str__(self) -> str:
        return f"stage {self.key[:12]} is being trained by {self.owner}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a remedy that names the nearest known word, or else all of them.

    >>> did_you_mean("lrr", ["lr", "momentum"])
    'Did you mean "lr"?'
    >>> did_you_mean("zzz", ["lr", "momentum"])
    'Known are: lr, momentum.'
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f'Did you mean "{near[0]}"?' if near else f"Known are: {', '.join(known)}."
