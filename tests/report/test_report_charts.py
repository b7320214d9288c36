"""Charts: every specification compiles without a warning, and shows what it says."""

from __future__ import annotations

import html
import json
import re
from importlib.resources import files

import pytest
import vl_convert

from report.made_up import LAYERS, report, space, study, write_network
from sqtune.config.parameters import label
from sqtune.report.charts import charts_of
from sqtune.report.charts.curves import MOST_POINTS
from sqtune.report.charts.style import COLOURS, FONT
from sqtune.report.facts import gather
from sqtune.report.finding import finding
from sqtune.report.page import page
from sqtune.report.render import VEGA_LITE, picture, png, svg
from sqtune.search.confirmed import Confirmed
from sqtune.store import Store

MIXED = ["finished"] * 16 + ["stopped"] * 4 + ["failed", "refused", "running"]
CONFIRMED = {
    "study": "again",
    "results": [
        Confirmed(0, 0.1, (0.1, 0.12), 0, 9000).as_data(),
        Confirmed(1, 0.2, (0.2,), 1, 8000).as_data(),
    ],
}


def by_key(found):
    return {chart.key: chart for chart in charts_of(found).all()}


def encoded(part, data):
    """Return the encoding of the first layer that draws such data."""
    layers = [inner for each in part["layer"] for inner in each.get("layer", [each])]
    return next(each["encoding"] for each in layers if each["data"] == {"name": data})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study in which there is something of everything, with the winner's network."""
    store = Store.at(tmp_path_factory.mktemp("whole"))
    made = study(MIXED, attrs={"confirmed": CONFIRMED})
    write_network(store.network(made.name, 0))
    return gather(made, made.trials(), store)


def test_a_whole_study_has_every_chart(whole):
    slices = {f"slice-{place:02d}" for place in range(1, 5)}
    assert set(by_key(whole)) == slices | {
        *("front", "confirmation", "importance", "parallel", "curves", "layers", "stopped"),
        "epochs",
    }


def kinds_of_studies(tmp_path):
    three = space(search={"objectives": ["val_error", "size_bytes", "bit_operations"]})
    floats = space(
        trial={"quantizer": {"name": "float"}}, space={"optimizer.lr": {"choice": [1, 2]}}
    )
    nothing = space(space={})
    return {
        "empty": report(tmp_path, []),
        "one": report(tmp_path, ["finished"]),
        "one, nothing searched": report(tmp_path, ["finished"], of=nothing),
        "failed": report(tmp_path, ["failed"] * 3),
        "refused": report(tmp_path, ["refused"] * 3),
        "three objectives": report(tmp_path, MIXED, of=three),
        "float": report(tmp_path, ["finished"] * 3, of=floats),
    }


def compiles(chart, capfd):
    for part in (*chart.parts, picture(chart)):
        vl_convert.vegalite_to_svg(part, vl_version=VEGA_LITE, show_warnings=True)
        printed = capfd.readouterr()
        assert not printed.out + printed.err, (chart.key, printed)


def test_every_chart_of_every_kind_of_study_compiles_without_warnings(whole, tmp_path, capfd):
    for found in (whole, *kinds_of_studies(tmp_path).values()):
        for chart in charts_of(found).all():
            compiles(chart, capfd)


def test_a_warning_would_be_seen(capfd):
    broken = {"data": {"values": [{"a": 1}]}, "mark": "point",
              "encoding": {"shape": {"field": "a", "type": "quantitative"}}}  # fmt: skip
    vl_convert.vegalite_to_svg(broken, vl_version=VEGA_LITE, show_warnings=True)
    printed = capfd.readouterr()
    assert "WARN" in (printed.out + printed.err).upper()


def test_what_there_is_nothing_of_has_no_chart(tmp_path):
    kinds = kinds_of_studies(tmp_path)
    assert not by_key(kinds["empty"])
    assert not by_key(kinds["refused"])
    assert set(by_key(kinds["failed"])) == {"curves", "epochs"}
    assert {"front", "operations"} <= set(by_key(kinds["three objectives"]))
    assert set(by_key(kinds["one"])) == {"front", "curves"}


def test_where_no_epoch_was_saved_a_sentence_says_so(whole, tmp_path):
    found = report(tmp_path, ["finished"])
    assert charts_of(found).none_saved in page(found)
    assert "all 8 that were asked for" in charts_of(found).none_saved
    assert charts_of(whole).none_saved == ""
    assert charts_of(report(tmp_path, [])).none_saved == ""


def test_the_front_is_that_of_error_and_size(whole):
    assert len(whole.front) > 1
    assert whole.on_front == {trial.number for trial in whole.front}
    part = by_key(whole)["front"].parts[0]
    front = part["datasets"]["front"]
    assert [row["trial"] for row in front] == [trial.number for trial in reversed(whole.front)]
    assert len(part["datasets"]["trials"]) == 16
    errors = [row["error"] for row in front]
    assert errors == sorted(errors, reverse=True)
    assert [row["seeds"] for row in part["datasets"]["confirmed"]] == [2, 1]


def test_a_confirmed_networks_bar_has_both_ends_on_a_logarithmic_axis(tmp_path):
    told = Confirmed(0, 0.1, (0.0, 0.0, 0.02), 0, 9000).as_data()
    attrs = {"confirmed": {"study": "again", "results": [told]}}
    part = by_key(report(tmp_path, ["finished"] * 12, attrs=attrs))["front"].parts[0]
    [row] = part["datasets"]["confirmed"]
    y = encoded(part, "confirmed")["y"]
    assert y["scale"]["type"] == "log"
    assert 0 < row["low"] < row["error"] < row["high"]


def test_a_logarithmic_axis_holds_all_bars_and_has_a_figure_on_every_line(tmp_path):
    def edit(parts):
        for name, epoch in parts["user_attrs"].items():
            if name.startswith("epoch") and "val_error" in epoch:
                epoch["val_error"] = 0.0025 * 2 ** parts["number"]  # the least is 1 of 400 images

    charts = by_key(report(tmp_path, ["finished"] * 7, edit=edit))
    part = charts["front"].parts[0]
    y, rows = encoded(part, "trials")["y"], part["datasets"]["trials"]
    assert y["scale"]["domain"][0] <= min(row["low"] for row in rows)
    assert y["scale"]["domain"][1] >= max(row["high"] for row in rows)
    assert min(row["low"] for row in rows) >= 0.25 / 10
    for axis in (y["axis"], charts["curves"].parts[0]["layer"][0]["encoding"]["y"]["axis"]):
        assert {0.5, 1, 2, 5, 10} <= set(axis["values"])
    labels = re.findall(r">([\d.]+)</text>", svg(part))
    assert {"0.5", "1", "2", "5", "10"} <= set(labels)


def test_networks_of_one_size_stand_beside_each_other_the_best_on_the_front(tmp_path):
    def edit(parts):
        parts["user_attrs"]["facts"]["size_bytes"] = 9000

    attrs = {"confirmed": CONFIRMED}
    found = report(tmp_path, ["finished"] * 4, edit=edit, attrs=attrs)
    data = by_key(found)["front"].parts[0]["datasets"]
    assert data["trials"][0]["aside"] == 0
    assert data["trials"][0]["trial"] == data["front"][0]["trial"]
    asides = [row["aside"] for row in data["trials"]] + [data["confirmed"][0]["aside"]]
    assert len(set(asides)) == 5


def test_every_mark_of_the_front_is_in_the_legend(whole, tmp_path):
    texts = svg(by_key(whole)["front"].parts[0])
    for name in ("trial 0", "front", "mean over new seeds", "standard error", "ternary"):
        assert f">{name}</text>" in texts
    alone = svg(by_key(report(tmp_path, ["finished"]))["front"].parts[0])
    assert ">mean over new seeds<" not in alone
    assert ">front<" not in alone


def test_bars_of_means_are_the_standard_error_that_the_sentence_tells(whole):
    [row, single] = by_key(whole)["front"].parts[0]["datasets"]["confirmed"]
    assert whole.confirmed[0].standard_error == pytest.approx(0.01)
    assert "11.00 ± 1.00 %" in finding(whole)
    for means in ([row, single], by_key(whole)["confirmation"].parts[0]["datasets"]["means"]):
        assert [means[0]["low"], means[0]["high"]] == pytest.approx([10, 12])
        assert means[1]["low"] == means[1]["high"]
    for key in ("front", "confirmation"):
        assert "standard error" in by_key(whole)[key].caption
        assert "deviation" not in by_key(whole)[key].caption


def test_a_float_network_is_a_line_for_reference(tmp_path):
    of = space(space={"quantizer.name": {"choice": ["float", "binary"]}})
    found = report(tmp_path, ["finished"] * 8, of=of)
    assert found.baseline is not None
    lines = by_key(found)["front"].parts[0]["datasets"]["lines"]
    assert [line["error"] for line in lines] == [100 * found.baseline.val_error]


def test_curves_show_the_float_error_before_the_first_quantized_epoch(whole):
    curves, ratios = by_key(whole)["curves"].parts
    rows = curves["datasets"]["curves"]
    assert {row["epoch"] for row in rows if row["trial"] == 0} == set(range(1, 9))
    assert {row["how"] for row in rows} == {"trial 0", "finished", "stopped or failed", "going on"}
    assert len({row["trial"] for row in curves["datasets"]["ends"]}) == 5
    assert {row["ratio"] for row in ratios["datasets"]["ratios"]} >= {0.0, 0.5, 1.0}


def test_long_curves_are_thinned_and_say_so(tmp_path):
    of = space(trial={"network": {"name": "resnet8"}, "num_epochs": 400})
    chart = by_key(report(tmp_path, ["finished"] * 100, of=of))["curves"]
    assert len(chart.parts[0]["datasets"]["curves"]) <= MOST_POINTS
    assert "thinned to 200 points" in chart.caption
    last = [row for row in chart.parts[0]["datasets"]["curves"] if row["epoch"] == 400]
    assert len(last) == 100


def test_the_heat_map_has_layers_in_the_networks_order_and_leaves_float_epochs_out(whole):
    part = by_key(whole)["layers"].parts[0]
    rows = part["datasets"]["layers"]
    assert list(dict.fromkeys(row["layer"] for row in rows)) == list(LAYERS)
    assert {row["epoch"] for row in rows} == set(range(3, 9))
    assert whole.layers.errors[0][:2] == (None, None)


def test_stops_are_counted_at_their_rung(whole):
    rows = by_key(whole)["stopped"].parts[0]["datasets"]["parts"]
    assert {row["part"]: row["count"] for row in rows} == {"stopped there": 4, "went on": 16}


def test_what_is_held_at_a_rung_has_not_gone_on(tmp_path):
    states = ["finished", "stopped", "paused", "paused", "interrupted", "failed", "repeated"]
    found = report(tmp_path, states)
    chart = by_key(found)["stopped"]
    rows = chart.parts[0]["datasets"]["parts"]
    counts = {row["part"]: row["count"] for row in rows}
    assert counts == {"went on": 1, "held there": 2, "stopped there": 1}
    assert chart.alt == "After epoch 4 of 8 1 stopped, 2 are held there and 1 went on."
    curves = by_key(found)["curves"].parts[0]["datasets"]["curves"]
    going_on = {row["trial"] for row in curves if row["how"] == "going on"}
    assert going_on == {2, 3, 4}
    assert 6 not in {row["trial"] for row in curves}


def test_long_values_that_begin_alike_are_categories_of_their_own(tmp_path, capfd):
    ratios = [0, 0.5, 0.75, 0.875, 1]
    long = [{"name": "stages", "ratios": ratios, "starts": [0, 0.2, 0.4, 0.6, last]}
            for last in (0.8, 0.9)]  # fmt: skip
    found = report(tmp_path, ["finished"] * 8, of=space(space={"schedule": {"choice": long}}))
    chart = by_key(found)["slice-01"]
    medians = chart.parts[0]["datasets"]["medians"]
    assert sorted(row["value"] for row in medians) == sorted(map(label, long))
    assert any(chart.alt.endswith(f"has {row['value']}.") for row in medians)
    compiles(chart, capfd)
    assert svg(chart.parts[0]).count(">starts=[0, 0.2, 0.4, …<") == 2  # short on the axis


def test_every_colour_is_the_pages_on_a_light_and_on_a_dark_ground():
    text = (files("sqtune.report") / "page.css").read_text()
    grounds = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    assert len(grounds) == 2  # on paper as on a light one
    assert "@media screen and (prefers-color-scheme: dark) {\n  :root {" in text
    names = {colour.removeprefix("var(").removesuffix(")") for colour in COLOURS}
    for ground in grounds:
        assert names <= set(re.findall(r"(--\w+): #[0-9a-f]{6};", ground))


def test_pictures_have_no_colour_of_the_page(whole):
    chart = by_key(whole)["parallel"]
    assert "var(--" in json.dumps(chart.parts[0])
    assert "var(--" not in json.dumps(picture(chart))
    assert png(chart).startswith(b"\x89PNG")


def test_a_picture_stands_alone(whole):
    for chart in charts_of(whole).all():
        texts = re.sub(r"<[^>]*>", " ", vl_convert.vegalite_to_svg(picture(chart), VEGA_LITE))
        words = " ".join(html.unescape(texts).split())
        assert "Study made up, trial 0" in words, chart.key
        assert chart.caption
        assert chart.caption in words, chart.key
        assert "this page" not in words, chart.key
        assert "this one" not in words, chart.key


def test_a_picture_has_the_legend_of_its_parts(whole):
    texts = vl_convert.vegalite_to_svg(picture(by_key(whole)["curves"]), VEGA_LITE)
    assert ">stopped or failed</text>" in texts


def test_stills_are_as_wide_as_their_place_and_name_the_font_they_are_measured_in(whole):
    for chart in charts_of(whole).all():
        for part in chart.parts:
            still = svg(part, chart.still_width)
            width = float(re.match(r"<svg [^>]*?width=\"([\d.]+)\"", still)[1])
            assert width == (320 if chart.key.startswith("slice") else chart.still_width)
            assert set(re.findall(r'font-family="([^"]*)"', still)) == {FONT}
    assert "Liberation Sans" in FONT  # which vl-convert brings


def test_a_charts_text_is_escaped_in_its_still_picture(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>"
    of = space(space={"selection.function": {"choice": ["linear", "softmax"]}}, name=evil)
    found = report(tmp_path, ["finished"] * 4, of=of)
    found.trials[0].values["selection.function"] = evil
    still = "".join(svg(part) for chart in charts_of(found).all() for part in chart.parts)
    assert "<img" not in still
    assert "</script" not in still


def test_the_float_network_at_the_start_is_a_line_for_reference(tmp_path):
    (tmp_path / "float").mkdir()
    result = {"about": {"result": {"val_error": 0.04}}}
    (tmp_path / "float" / "network.json").write_text(json.dumps(result))
    network = {"name": "resnet8", "width": 4}
    for weights, errors in ((tmp_path / "float", [4.0]), (tmp_path / "other.pt", [])):
        of = space(trial={"network": network, "start": {"weights": str(weights)}, "num_epochs": 2})
        chart = by_key(report(tmp_path, ["finished"] * 2, of=of))["front"]
        assert [line["error"] for line in chart.parts[0]["datasets"]["lines"]] == errors
