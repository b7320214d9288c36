"""Charts as SVG, PNG and a script that draws them. Only here is vl-convert imported."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
from typing import Any

from sqtune.errors import StoreError
from sqtune.mirror import cache_folder
from sqtune.report.charts.style import COLOURS, Chart, Spec

VEGA_LITE = "6.4"  # the version that Altair writes
STILL_WIDTH = 760  # pixels of a chart where nothing says how wide it is
PICTURE_SCALE = 2  # dots a pixel
NOTHING_FROM_OUTSIDE: list[str] = []  # URLs that a chart may read data from


@functools.cache
def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script for a page.

    It takes more than a second to put together, so this machine keeps it.
    """
    made_by = importlib.metadata.version("vl-convert-python")
    try:
        kept = cache_folder() / f"vega-{made_by}-{VEGA_LITE}.js"
    except StoreError:  # no home folder
        return _bundle()
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    text = _bundle()
    partial = kept.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(kept)
    return text


def _bundle() -> str:
    import vl_convert

    snippet = "window.vegaEmbed = vegaEmbed;"
    text: str = vl_convert.javascript_bundle(snippet, vl_version=VEGA_LITE)
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def svg(part: Spec) -> str:
    """Return a part of a chart as SVG whose colours are the page's."""
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(
        {**part, "width": STILL_WIDTH}, vl_version=VEGA_LITE, allowed_base_urls=NOTHING_FROM_OUTSIDE
    )
    return text


def png(chart: Chart) -> bytes:
    """Return a chart as a picture on white, with its title."""
    import vl_convert

    data: bytes = vl_convert.vegalite_to_png(
        picture(chart),
        vl_version=VEGA_LITE,
        scale=PICTURE_SCALE,
        allowed_base_urls=NOTHING_FROM_OUTSIDE,
    )
    return data


def picture(chart: Chart) -> Spec:
    """Return a chart as one specification with fixed width and colours."""
    inside = [
        {key: item for key, item in part.items() if key not in ("config", "datasets")}
        | {"width": max(STILL_WIDTH, chart.least_width)}
        for part in chart.parts
    ]
    title = {"text": chart.title, "anchor": "start", "color": COLOURS["var(--ink)"], "offset": 12}
    datasets: dict[str, Any] = {}
    for part in chart.parts:
        datasets |= part["datasets"]
    config = {**chart.parts[0]["config"], "background": "#ffffff", "padding": 12}
    whole = {"vconcat": inside, "title": title, "config": config, "datasets": datasets}
    text = json.dumps(whole)
    for name, colour in COLOURS.items():
        text = text.replace(f'"{name}"', f'"{colour}"')
    filled: Spec = json.loads(text)
    return filled
