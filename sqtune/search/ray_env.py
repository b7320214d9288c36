"""Ray's chatter, telemetry and manners, set before it is imported."""

from __future__ import annotations

import logging
import os

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without GPUs sees none
    "RAY_timeout_ms_task_wait_for_death_info": "10000",  # to hear whether worker or node is gone
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver has its own
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # how many there are at once, the executor counts
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # snapshots, which nobody reads: never
}


def quieten(*, cluster: bool = False) -> None:
    """Set what Ray reads when it is imported; a variable that is set already is left alone.

    Args:
        cluster: Whether several machines take part: then Ray asks for its token.
    """
    mode = {"RAY_AUTH_MODE": "token" if cluster else "disabled"}
    for name, value in {**QUIET, **mode}.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)  # in notebooks it misses some
