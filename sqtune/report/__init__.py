"""A study on one page: study -> frozen data -> charts (Vega-Lite) -> HTML that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqtune.search.record import Page
    from sqtune.search.records import TrialRecord
    from sqtune.search.study import Study
    from sqtune.store import Store


def page_maker(options: str) -> Page:
    """Return what makes a study's page at the end of a search; until then nothing is imported.

    Args:
        options: What a command on the study needs beside its name, quoted for a shell.
    """

    def make(study: Study, trials: Sequence[TrialRecord], store: Store) -> str:
        from sqtune.report.page import page_of_study

        return page_of_study(study, trials, store, options)

    return make
