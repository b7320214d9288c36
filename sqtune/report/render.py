"""Charts as SVG, PNG and a script that draws them. Only here is vl-convert imported."""

from __future__ import annotations

import functools
import json
from typing import Any

from sqtune.report.charts.style import COLOURS, Chart, Spec

VEGA_LITE = "6.4"  # the version that Altair writes
STILL_WIDTH = 760  # pixels of a chart where nothing says how wide it is
PICTURE_SCALE = 2  # dots a pixel
NOTHING_FROM_OUTSIDE: list[str] = []  # URLs that a chart may read data from


@functools.cache
def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script for a page."""
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
