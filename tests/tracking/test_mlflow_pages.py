"""MLflow's own pages in a real Chromium: the links that sqtune prints show what they promise."""

from __future__ import annotations

import re

import pytest

from sqtune.tracking import Tracker
from sqtune.tracking.pages import charts_page, latest_study, study_page, trials_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

STUDY = "Zif fern <b>数字</b>"
FRONT = {1, 3}


@pytest.fixture(scope="module")
def pages(browser, one_server):
    """Return the addresses of a study's pages on a server: front, its run, charts, trials."""
    if not one_server.runs:
        one_server.start()
    one_server.wait()
    tracker = Tracker(one_server.uri, None, STUDY)
    tracker.start_study("uuid", {}, {"sampler": "tpe"}, {}, searched=["optimizer.lr"])
    for number in range(4):
        tracker.start_trial(number, {"optimizer.lr": 0.1 * number})
        for epoch in (1, 2):
            figures = {"val_error": 0.5 / (number + epoch), "ratio": epoch / 2, "lr": 0.1}
            tracker.log_epoch(number, {"epoch": epoch, "time": 1_700_000_000_000, **figures})
        tracker.end_trial(number, "FINISHED", {"size_bytes": 1000 + number, "bits": 2})
    tracker.tag_front(FRONT)
    table = "| &nbsp;a&nbsp; | b |\n| --- | --- |\n| &nbsp;2.44&nbsp; | 2 |"
    tracker.describe(f"Best: [trial 3](trial:3).\n\n{table}\n\n[front](front) [charts](charts)")
    tracker.end_study("FINISHED", {})
    tracker.close()
    assert tracker.error is None
    study, experiment = latest_study(one_server.uri)
    assert study == STUDY
    others = (study_page(experiment), charts_page(experiment), trials_page(experiment))
    return tracker.front_page, *(f"{one_server.uri}/{page}" for page in others)


@pytest.fixture
def page(browser):
    """Return a page that must not fail."""
    opened = browser.new_page(viewport={"width": 2200, "height": 900})
    problems = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    opened.close()
    assert not problems


def runs_shown(page) -> list[str]:
    """Return the names of the runs that the page lists, from its top."""
    links = page.locator("a[href*='/runs/']", has_text=re.compile(f"^{re.escape(STUDY)}"))
    links.first.wait_for()
    return links.all_inner_texts()


def test_the_link_to_the_front_shows_its_runs_alone_best_first(page, pages):
    page.goto(pages[0])
    assert runs_shown(page) == [f"{STUDY}-{number:04d}" for number in (3, 1)]
    for column in ("val_error", "size_bytes", "bits", "optimizer.lr"):
        page.get_by_role("columnheader", name=column).first.wait_for()
    page.get_by_text("2 matching runs").wait_for()


def test_a_study_is_one_parent_with_its_trials_and_its_description(page, pages):
    page.goto(pages[1])
    assert runs_shown(page) == [STUDY]
    page.locator("a[href*='/runs/']", has_text=STUDY).first.click()
    cell = page.locator("td", has_text=re.compile("^\\s*2.44\\s*$")).first
    cell.wait_for()
    assert cell.text_content() == "\xa02.44\xa0"  # MLflow leaves no room between columns
    page.goto(pages[1])
    link = page.get_by_role("link", name="trial 3").first.get_attribute("href")
    page.goto(f"{pages[1].partition('#')[0]}{link}")
    page.get_by_role("heading", name=f"{STUDY}-0003").wait_for()
    page.get_by_text("Parent run", exact=True).wait_for()


def test_the_link_to_the_trials_shows_all_of_them_best_first(page, pages):
    page.goto(pages[3])
    assert runs_shown(page) == [f"{STUDY}-{number:04d}" for number in (3, 2, 1, 0)]


def test_the_charts_compare_all_trials_by_epoch(page, pages):
    page.goto(pages[2])
    assert len(runs_shown(page)) == 4
    page.get_by_text("size_bytes vs. val_error").wait_for()
    for name in ("val_error", "ratio"):
        page.get_by_text(f"{STUDY}-0003 ({name})").first.wait_for()
