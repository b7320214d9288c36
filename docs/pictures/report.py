"""The pictures of a report in this folder: on a desktop, in the dark, on a phone.

sqtune search --space search_spaces/schedules_digits.yaml --store /tmp/pictures
sqtune confirm --store /tmp/pictures
sqtune report schedules_digits --store /tmp/pictures --out /tmp/report.html
make test-browser                                        # once, for Playwright
.venv/bin/python docs/pictures/report.py /tmp/report.html
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
VIEWS: dict[str, dict[str, Any]] = {
    "report-desktop": {"viewport": {"width": 1180, "height": 1160}, "color_scheme": "light"},
    "report-dark": {"viewport": {"width": 1180, "height": 900}, "color_scheme": "dark"},
    "report-phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True},
}
SHOWN = {"report-desktop": "#finding", "report-dark": "#curves", "report-phone": "#front-section"}


def main(page_file: Path) -> None:
    """Write one picture for each view."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, view in VIEWS.items():
            page = browser.new_page(**view)
            page.goto(page_file.absolute().as_uri())
            for box in page.locator("[data-chart]").all():
                box.evaluate("each => each.scrollIntoView()")
            page.wait_for_selector("[data-chart]:not(.drawn)", state="detached")
            page.locator(SHOWN[name]).evaluate("each => each.scrollIntoView()")
            page.screenshot(path=HERE / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
