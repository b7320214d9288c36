"""Samplers by name, each value with a seed of its own, and parameters in Optuna's words.

A proposal depends on the study's seed, the trial's number and what the storage holds, never on when
the study was reopened.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space.group_decomposed import (
    _GroupDecomposedSearchSpace,
    _SearchSpaceGroup,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from sqtune.config.grid import all_values
from sqtune.config.options import Sampler
from sqtune.config.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, label
from sqtune.config.space import SearchSpace
from sqtune.errors import ConfigError

PACKAGES: dict[Sampler, tuple[str, ...]] = {"cmaes": ("cmaes",), "gp": ("scipy", "torch")}


def require_packages(sampler: Sampler) -> None:
    """Raise ConfigError where a sampler needs a package that is not installed."""
    for package in PACKAGES.get(sampler, ()):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f'search.sampler: {sampler} needs the package "{package}", which is not installed. '
                'Install it (pip install "sqtune[samplers]"), or take search.sampler: tpe.'
            )


class Samplers:
    """The samplers of a space's values.

    Args:
        space: The space, with the sampler's name and the study's seed.

    Attributes:
        distributions: What Optuna samples each value from, by path.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.distributions = {path: distribution(one) for path, one in space.space.items()}
        self._space = space
        self._plain = RandomSampler(seed=0)  # to make one takes longer than to draw

    def of(self, number: int, path: str = "", *, at_random: bool = False) -> BaseSampler:
        """Return the sampler of one value of one trial; it is good until the next call.

        Args:
            number: The trial's number.
            path: The value's path.
            at_random: Whether to draw at random, whatever the space's sampler is.
        """
        text = f"{self._space.search.seed}:{number}:{path}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        self._plain._rng.rng.seed(seed)
        if at_random:
            return self._plain
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._by_name(number, seed)

    def _by_name(self, number: int, seed: int) -> BaseSampler:
        plain = self._plain
        options: Any = {
            "seed": seed,
            "independent_sampler": plain,
            "warn_independent_sampling": False,
        }
        match self._space.search.sampler:
            case "random" | "grid" | "points":  # of the last two, what a point leaves open
                return plain
            case "qmc":
                return _Sobol(self.distributions, self._space.search.seed, number, plain)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed)
            case "nsga3":
                return optuna.samplers.NSGAIIISampler(seed=seed)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(**options)
            case "gp":
                return optuna.samplers.GPSampler(**options)
            case "tpe":  # `group` splits a conditional space into parts that are sampled jointly
                tpe = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
                tpe._group_decomposed_search_space = _Groups(include_pruned=True)
                return tpe

    def draw(self, study: optuna.Study, number: int) -> dict[str, Any]:
        """Return a trial's values, as they are stored, each drawn at random with its own seed.

        They are those that a trial gets which is sampled value by value.
        """
        drawn, values = dict[str, Any](), dict[str, Any]()
        trial = create_trial(state=TrialState.RUNNING)
        for path, parameter in self._space.active(values):
            sampler = self.of(number, path, at_random=True)
            drawn[path] = sampler.sample_independent(study, trial, path, self.distributions[path])
            values[path] = unstored(parameter, drawn[path])
        return drawn


class _Sobol(optuna.samplers.QMCSampler):
    """The scrambled Sobol sequence over all of a space, trial n at its point n.

    Optuna's own knows the space from the first trial only, draws that one at random and counts its
    points in the storage, where a killed driver leaves one that no trial has.
    """

    def __init__(
        self,
        distributions: dict[str, BaseDistribution],
        seed: int,
        number: int,
        plain: BaseSampler,
    ) -> None:
        super().__init__(
            seed=seed,
            scramble=True,
            independent_sampler=plain,
            warn_independent_sampling=False,
        )
        self._number = number
        self._whole = {path: one for path, one in distributions.items() if not one.single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return every parameter; of those whose conditions do not hold the value is not used."""
        del study, trial
        return self._whole

    def _find_sample_id(
        self, study: optuna.Study, search_space: dict[str, BaseDistribution]
    ) -> int:
        del study, search_space
        return self._number


class _Groups(_GroupDecomposedSearchSpace):
    """The parts of a conditional space, as Optuna finds them, from one trial of each kind.

    Optuna goes through all trials; one with the same parameters as another splits nothing further.
    """

    def calculate(self, study: optuna.Study, use_cache: bool = False) -> _SearchSpaceGroup:
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = study._get_trials(deepcopy=False, states=states, use_cache=use_cache)
        kinds: dict[tuple[str, ...], FrozenTrial] = {}
        for trial in trials:
            kinds.setdefault(tuple(trial.distributions), trial)
        for trial in kinds.values():
            self._search_space.add_distributions(trial.distributions)
        return self._search_space


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return a parameter as Optuna has it; choices stand there by their stored names."""
    match parameter:
        case ChoiceParameter(choice=choice):
            return CategoricalDistribution([stored_value(value) for value in choice])
        case IntParameter(bounds=(low, high), step=step, log=log):
            return IntDistribution(low, low + (high - low) // step * step, step=step, log=log)
        case FloatParameter(bounds=(low, high), step=None, log=log):
            return FloatDistribution(low, high, log=log)
        case FloatParameter(step=step):
            values = all_values(parameter)
            return FloatDistribution(values[0], values[-1], step=step)
    raise TypeError(f"{type(parameter).__name__} is no parameter")


def suggest(trial: optuna.Trial, path: str, parameter: Parameter) -> Any:
    """Return a value that a trial gets, as the configuration takes it."""
    match distribution(parameter):
        case CategoricalDistribution(choices=choices):
            return unstored(parameter, trial.suggest_categorical(path, choices))
        case IntDistribution() as one:
            return trial.suggest_int(path, one.low, one.high, step=one.step, log=one.log)
        case FloatDistribution() as one:
            return trial.suggest_float(path, one.low, one.high, step=one.step, log=one.log)
    raise TypeError(f"{type(parameter).__name__} is no parameter")


def stored_value(value: Any) -> Any:
    """Return what is stored for a value: plain values themselves, others by their label."""
    return label(value) if isinstance(value, dict | list) else value


def unstored(parameter: Parameter, value: Any) -> Any:
    """Return what a stored value stands for; one that the parameter does not have as it is."""
    if not isinstance(parameter, ChoiceParameter):
        return value
    return next((choice for choice in parameter.choice if stored_value(choice) == value), value)
