"""Charts as SVG, PNG and a script that draws them. Only here is vl-convert imported."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import textwrap
from typing import Any

from sqtune.errors import StoreError
from sqtune.mirror import cache_folder
from sqtune.report.charts.style import COLOURS, STILL_WIDTH, Chart, Spec

VEGA_LITE = "6.4"  # the version that Altair writes
PICTURE_SCALE = 2  # dots a pixel
LETTER_WIDTH = 5.8  # pixels of a caption's text, on the average
LINE_HEIGHT = 17  # pixels
LEGENDS = ("stroke", "strokeDash", "strokeWidth", "opacity", "shape", "fill", "color")
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


def svg(part: Spec, width: int = STILL_WIDTH) -> str:
    """Return a part of a chart as SVG whose colours are the page's.

    Args:
        part: Of the chart.
        width: Of all of it, in pixels. A little of that stays free at the left: where the page's
            font is wider than ours, names of rows need it.
    """
    import vl_convert

    fitted = {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}}
    text: str = vl_convert.vegalite_to_svg(
        {**part, **fitted, "padding": {"left": 12, "top": 5, "right": 8, "bottom": 5}},
        vl_version=VEGA_LITE,
        allowed_base_urls=NOTHING_FROM_OUTSIDE,
    )
    return text


def png(chart: Chart) -> bytes:
    """Return a chart as a picture on white that stands alone: with title, source and caption."""
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
    width = max(STILL_WIDTH, chart.least_width)
    inside = [
        {key: item for key, item in part.items() if key not in ("config", "datasets")}
        | {"width": width}
        for part in chart.parts
    ]
    datasets: dict[str, Any] = {}
    for part in chart.parts:
        datasets |= part["datasets"]
    title = {
        "text": chart.title,
        "subtitle": chart.source,
        "anchor": "start",
        "color": "var(--ink)",
        "subtitleColor": "var(--soft)",
        "offset": 12,
    }
    whole = {
        "vconcat": [*inside, _caption(chart.caption, width)],
        "title": title,
        "config": {**chart.parts[0]["config"], "background": "#ffffff", "padding": 12},
        "datasets": datasets,
        # the parts of a chart may have a legend for all of them in the first
        "resolve": {"legend": dict.fromkeys(LEGENDS, "independent")},
    }
    text = json.dumps(whole)
    for name, colour in COLOURS.items():
        text = text.replace(f'"{name}"', f'"{colour}"')
    filled: Spec = json.loads(text)
    return filled


def _caption(text: str, width: int) -> Spec:
    """Return a text in lines as a view of its own."""
    lines = textwrap.wrap(text, int(width / LETTER_WIDTH))
    written = {"type": "text", "align": "left", "baseline": "top", "color": "var(--soft)"}
    return {
        "data": {"values": [{}]},
        "mark": {**written, "text": lines, "x": 0, "y": 0, "lineHeight": LINE_HEIGHT},
        "width": width,
        "height": LINE_HEIGHT * len(lines),
    }
