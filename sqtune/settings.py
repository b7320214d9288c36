"""What a team sets once: where studies, networks and records lie, and which cluster trains.

An option of a command comes first, then an environment variable, then the settings file.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from sqtune.errors import ConfigError, did_you_mean

VARIABLES = {  # by setting, which is also the name of an option's parameter
    "store": "SQTUNE_STORE",
    "study_storage": "SQTUNE_STUDY_STORAGE",
    "tracking_uri": "SQTUNE_TRACKING_URI",
    "address": "RAY_ADDRESS",
}
FILE_VARIABLE = "SQTUNE_CONFIG"
DEFAULT_FILE = Path("~/.config/sqtune/config.toml")
SECRETS = (
    "Keep it out of files: PostgreSQL reads ~/.pgpass and PGPASSWORD, MLflow reads "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
)


def settings() -> dict[str, str]:
    """Read the settings file: the one that SQTUNE_CONFIG names, or ~/.config/sqtune/config.toml.

    Raises:
        ConfigError: It cannot be read, has an unknown key, no text as a value, or a password.
    """
    named = os.environ.get(FILE_VARIABLE)
    try:
        path = Path(named or DEFAULT_FILE).expanduser()
        if not named and not path.is_file():
            return {}
    except (OSError, RuntimeError) as error:  # nobody's home, or somebody else's
        if not named:
            return {}
        raise ConfigError(f"{FILE_VARIABLE}: {named}: {error}. Name a file, or unset it.") from None
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{FILE_VARIABLE}: {path} cannot be read: {error.strerror}. Name a file, or unset it."
        ) from error
    except ValueError as error:
        raise ConfigError(
            f'{path} is no TOML: {error}. Write lines such as store = "/shared/store".'
        ) from error
    for key, value in content.items():
        if key not in VARIABLES:
            raise ConfigError(f"{path}: {key} is no setting. {did_you_mean(key, VARIABLES)}")
        if not isinstance(value, str) or not value:
            raise ConfigError(f'{path}: {key} is text in quotes: write {key} = "...".')
        if without_password(value) != value:
            raise ConfigError(f"{path}: {key} holds a password. {SECRETS}")
    return content


def setting(name: str, given: str | None = None) -> str | None:
    """Return a setting: as given, else from its environment variable, else from the settings file.

    Raises:
        ConfigError: The settings file cannot be used.
    """
    return given or os.environ.get(VARIABLES[name]) or settings().get(name)


def without_password(url: str) -> str:
    """Return a URL as it may be shown: its password, if it has one, replaced by ***.

    >>> without_password("postgresql://me:se/cret@host/db"), without_password("/a:b@c")
    ('postgresql://me:***@host/db', '/a:b@c')
    >>> without_password("postgresql://host/db?user=me&password=secret")
    'postgresql://host/db?user=me&password=***'
    """
    shown = re.sub(r"(\w://[^:/@]*:).+@", r"\1***@", url)  # a password may hold any sign
    return re.sub(r"(?i)([?&][^=&]*(?:pass|token|secret)[^=&]*=)[^&]+", r"\1***", shown)
