"""The report's page in a browser: charts, table, dark, a phone, paper, no script, no network."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest
from report.made_up import report, space, study, write_network

from sqtune.report.facts import gather
from sqtune.report.page import page as page_of
from sqtune.search.confirmed import Confirmed
from sqtune.store import Store

pytestmark = pytest.mark.browser
STATES = ["finished"] * 20 + ["stopped"] * 5 + ["failed"] * 2 + ["running"]
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
FADE = "each => parseFloat(getComputedStyle(each, '::after').width)"  # pixels
# Texts that a still picture cuts, and the height of the smallest, in pixels of the screen.
CUT = """[...document.querySelectorAll("[data-chart] > svg text")].filter(each => {
  const text = each.getBoundingClientRect(), all = each.closest("svg").getBoundingClientRect();
  return text.width && (text.left < all.left || text.right > all.right);
}).map(each => each.textContent)"""
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll("[data-chart] > svg")].flatMap(
  svg => [...svg.querySelectorAll("text")].map(each => parseFloat(getComputedStyle(each).fontSize)
    * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)))"""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """Return a page of a study in which there is something of everything."""
    folder = tmp_path_factory.mktemp("page")
    store = Store.at(folder / "store")
    confirmed = Confirmed(0, 0.1, (0.1, 0.12), 0, 9000).as_data()
    made = study(STATES, attrs={"confirmed": {"study": "again", "results": [confirmed]}})
    write_network(store.network(made.name, 0))
    path = folder / "page.html"
    path.write_text(page_of(gather(made, made.trials(), store)), encoding="utf-8")
    return path.as_uri()


@contextmanager
def opened(browser, address, *, viewport=DESKTOP, **how):
    """Open a page without network; at the end nothing may have gone wrong or been asked for."""
    context = browser.new_context(viewport=viewport, offline=True, **how)
    page = context.new_page()
    troubles, requests = [], []
    page.on(
        "console", lambda line: line.type in ("error", "warning") and troubles.append(line.text)
    )
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert not troubles
    assert requests == [address]


def draw_all(page):
    """Go down the page until every chart is drawn."""
    boxes = page.locator("[data-chart]")
    for place in range(boxes.count()):
        boxes.nth(place).evaluate("each => each.scrollIntoView()")
        page.wait_for_selector(f"[data-chart] >> nth={place} >> .vega-embed svg")
    page.wait_for_selector("[data-chart]:not(.drawn)", state="detached")


def column(page, name):
    """Return the visible cells of a column, from top to bottom."""
    heads = page.locator("#trials-table thead th").all_inner_texts()
    place = [head.strip() for head in heads].index(name) + 1
    cells = page.locator(f"#trials-table tbody tr:not([hidden]) td:nth-child({place})")
    return cells.all_inner_texts()


def luminance(colour: str) -> float:
    """Return the relative luminance (0..1) of "rgb(r, g, b)", as WCAG 2 defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_chart_is_drawn_without_errors_and_without_network(browser, address):
    with opened(browser, address) as page:
        draw_all(page)
        assert page.locator("[data-chart]").count() == 12
        sizes = page.eval_on_selector_all(
            "[data-chart] svg", "all => all.map(each => each.getBoundingClientRect().height)"
        )
        assert min(sizes) > 40


def test_a_mark_tells_what_it_is(browser, address):
    with opened(browser, address) as page:
        draw_all(page)
        marks = page.locator("[data-chart=front] .mark-symbol path[aria-roledescription]")
        marks.first.scroll_into_view_if_needed()
        marks.first.hover(force=True)
        tip = page.locator("#vg-tooltip-element")
        tip.wait_for(state="visible")
        assert "error (%)" in tip.inner_text()


def test_the_table_is_sorted_by_mouse_and_keyboard(browser, address):
    with opened(browser, address) as page:
        best_first = column(page, "trial")
        page.get_by_role("button", name="size KiB").click()
        sizes = [float(text.replace(",", "")) for text in column(page, "size KiB")]
        assert sizes == sorted(sizes)
        button = page.get_by_role("button", name="trial", exact=True)
        button.focus()
        page.keyboard.press("Enter")
        numbers = [int(text) for text in column(page, "trial")]
        assert numbers == list(range(len(STATES)))
        page.keyboard.press("Enter")
        assert [int(text) for text in column(page, "trial")] == numbers[::-1]
        head = page.locator("#trials-table th[aria-sort]")
        assert head.count() == 1
        assert head.get_attribute("aria-sort") == "descending"
        page.get_by_role("button", name="error %", exact=True).click()
        errors = column(page, "error %")
        known = [float(text) for text in errors if text]
        assert known == sorted(known)
        assert errors[len(known) :] == [""] * (len(STATES) - len(known))  # unknown ones come last
        assert column(page, "trial")[:20] == best_first[:20]


def test_the_table_is_filtered_by_state_and_words(browser, address):
    with opened(browser, address) as page:
        assert page.locator("#count").inner_text() == f"{len(STATES)} of {len(STATES)} trials"
        page.get_by_label("with the words").fill("ternary")
        ternary = column(page, "quantizer.name")
        assert set(ternary) == {"ternary"}
        assert 0 < len(ternary) < len(STATES)
        assert page.locator("#count").inner_text() == f"{len(ternary)} of {len(STATES)} trials"
        page.get_by_label("with the words").fill("")
        page.get_by_label("Show").select_option("stopped")
        assert len(column(page, "state")) == 5
        page.get_by_label("with the words").fill("no such word")
        assert column(page, "trial") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(browser, address, scheme):
    with opened(browser, address, color_scheme=scheme) as page:
        draw_all(page)
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (luminance(paper) < 0.1) == (scheme == "dark")
        words = page.eval_on_selector_all(
            "[data-chart] svg text", "all => all.map(each => getComputedStyle(each).fill)"
        )
        assert len(words) > 50
        inside_bars = "rgb(0, 0, 0)"  # numbers on coloured bars
        assert min(contrast(word, paper) for word in words if word != inside_bars) > 4.5
        for selector in ("#finding", "figcaption", "dt", "td", "a"):
            colour = page.eval_on_selector(selector, "each => getComputedStyle(each).color")
            assert contrast(colour, paper) > 4.5, selector


def test_a_phone_scrolls_charts_in_their_boxes_and_never_the_page(browser, address):
    with opened(browser, address, viewport=PHONE, is_mobile=True, has_touch=True) as page:
        draw_all(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        wider = page.eval_on_selector_all(
            ".scroll", "all => all.filter(each => each.scrollWidth > each.clientWidth + 1).length"
        )
        assert wider >= 2  # parallel coordinates and the table
        for key, fades in (("parallel", True), ("layers", True), ("front", False)):
            box = page.locator(f"#{key} .scroll")
            assert (box.evaluate(FADE) > 10) == fades, key


def test_without_scripts_everything_is_there(browser, address):
    with opened(browser, address, java_script_enabled=False) as page:
        assert page.locator("[data-chart] > svg").count() >= 12
        assert page.locator("#trials-table tbody tr").count() == len(STATES)
        assert not page.locator(".filter").is_visible()
        box = page.locator("[data-chart=front] > svg").bounding_box()
        assert box["width"] > 400
        assert page.evaluate(CUT) == []


def test_a_phone_without_scripts_has_charts_that_can_be_read(browser, address):
    with opened(browser, address, viewport=PHONE, java_script_enabled=False) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.evaluate(SMALLEST_TEXT) >= 8
        assert page.evaluate(CUT) == []


def test_paper_is_white_whatever_the_screen(browser, address):
    with opened(browser, address, color_scheme="dark") as page:
        draw_all(page)
        page.emulate_media(media="print")
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert luminance(paper) > 0.9
        assert (
            page.evaluate("getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
        )


def test_names_with_markup_are_shown_as_they_are(browser, tmp_path):
    evil = '</script><img src=x onerror="document.title=1">'
    path = tmp_path / "evil.html"
    found = report(tmp_path, ["finished"] * 3, of=space(name=evil))
    path.write_text(page_of(found), encoding="utf-8")
    with opened(browser, path.as_uri()) as page:
        draw_all(page)
        assert page.title().startswith(evil)
        assert evil in page.locator("h1").inner_text()
        assert page.locator("img").count() == 0
