"""Which searched values matter, as Optuna judges it from the trials that have finished."""

from __future__ import annotations

import warnings

import optuna
from optuna.trial import TrialState

FEWEST_TRIALS = 10  # finished, of which the best tenth is one


def importance(study: optuna.Study, objective: int) -> dict[str, float]:
    """Return the share (0..1) of each searched value, most important first.

    It says how much the values of the best tenth of the finished trials differ from those of all.
    Source: Watanabe, Bansal, Hutter, "PED-ANOVA", IJCAI 2023.

    Args:
        study: Optuna's; trials that were taken over from another study count.
        objective: Index of the objective that is to be low.

    Returns:
        The shares, which sum to 1; empty where too few trials have finished, or nothing can be
        told apart.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) < FEWEST_TRIALS or not any(trial.params for trial in trials):
        return {}

    def value(trial: optuna.trial.FrozenTrial) -> float:
        assert trial.values is not None
        return float(trial.values[objective])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few trials, and that low values are the good ones
        shares = optuna.importance.get_param_importances(study, target=value, normalize=False)
    total = sum(shares.values())
    return {path: share / total for path, share in shares.items()} if total > 0 else {}
