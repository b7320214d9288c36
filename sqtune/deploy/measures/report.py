"""What people read of an export: the size table, and where the bytes are, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.table import Table

from sqtune.deploy.measures.latency import CONTROL
from sqtune.deploy.measures.measure import FLOAT32, PACKED

Spread = Mapping[str, float]


def size_table(manifest: Mapping[str, Any]) -> Table:
    """Return what an export takes beside the same network in float32, as a table."""
    size = manifest["size"]
    table = _table("", PACKED, FLOAT32, "ratio")
    rows = [
        ("bytes", size["bytes"], size["float32_bytes"]),
        ("gzip -9", size["gzip_bytes"], size["float32_gzip_bytes"]),
    ]
    for name, ours, theirs in rows:
        if ours is not None:
            table.add_row(name, f"{ours:,}", f"{theirs:,}", f"{ours / theirs:.3f}")
    if size["predicted_bytes"] is not None:
        table.add_row("bytes, predicted", f"{size['predicted_bytes']:,}", "", "")
    table.add_row("bits a weight", f"{size['weight_bits']:.2f}", "32", "")
    float32_bits = 8 * size["float32_bytes"] / size["weights"]
    table.add_row("bits a weight, all bytes", f"{size['file_bits']:.2f}", f"{float32_bits:.2f}", "")
    if size["ram_bytes"] is not None:
        table.add_row("RAM", f"{size['ram_bytes']:,}", "", "")
        if size["predicted_ram_bytes"] is not None:
            table.add_row("RAM, predicted", f"{size['predicted_ram_bytes']:,}", "", "")
    if size["target"] is not None:
        table.add_row("code, Cortex-M4", f"{size['target']['code_bytes']:,}", "", "")
        table.add_row("stack, Cortex-M4", f"{size['target']['stack_bytes']:,}", "", "")
        table.add_row("instructions an image", f"{size['target']['instructions']:,}", "", "")
    if size["memory"] is not None:
        for key, name in (("in_use", "memory in use"), ("peak", "memory, peak")):
            table.add_row(name, *_memory(size["memory"], key))
    if size["latency"] is not None:
        times = size["latency"]["times"]
        table.add_row("ms to load", *_times(times, "load_ms", "load_ratio"))
        table.add_row("ms an image", *_times(times, "run_ms", "ratio"))
        table.caption = (
            "Medians (quartiles), in turns on one thread; the same float32 file again: "
            f"{_spread(times[CONTROL]['ratio'])}"
        )
        table.caption_justify = "left"
    return table


def layers_table(manifest: Mapping[str, Any]) -> Table:
    """Return where the bytes of an export are, layer by layer, as a table."""
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "layer": lambda layer: layer["name"],
        "quantizer": lambda layer: layer["quantizer"],
        "bits": lambda layer: str(layer["bits"]),
        "input": lambda layer: str(layer["input"]["bits"]) if layer["input"] else "32",
        "weights": lambda layer: f"{layer['weights']:,}",
        "codes": lambda layer: f"{layer['packed_bytes']:,}",
        "scales": lambda layer: f"{layer['scale_bytes']:,}",
        "biases": lambda layer: f"{layer['bias_bytes']:,}",
    }
    table = _table(*columns, left=("layer", "quantizer"))
    for layer in manifest["layers"]:
        table.add_row(*(cell(layer) for cell in columns.values()))
    size = manifest["size"]
    parts = (size[f"{part}_bytes"] for part in ("payload", "scale", "bias"))
    sums = (f"{part:,}" for part in parts)
    table.add_row("all layers", "", "", "", f"{size['weights']:,}", *sums, style="bold")
    table.add_row("the rest", "", "", "", "", f"{size['other_bytes']:,}", "", "")
    return table


def _table(*columns: str, left: tuple[str, ...] = ("",)) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    return table


def _memory(memory: Mapping[str, Any], key: str) -> list[str]:
    found = [memory[name] and memory[name][key] for name in (PACKED, FLOAT32)]
    if any(each is None for each in found):
        return ["?", "?", ""]
    ours, theirs = found
    ratio = f"{ours / theirs:.2f}" if theirs else ""
    return [f"{ours / 2**20:.1f} MiB", f"{theirs / 2**20:.1f} MiB", ratio]


def _times(times: Mapping[str, Any], key: str, ratio: str) -> list[str]:
    ours, theirs = (_spread(times[name][key], ".3g") for name in (PACKED, FLOAT32))
    return [ours, theirs, _spread(times[PACKED][ratio])]


def _spread(found: Spread, digits: str = ".2f") -> str:
    median, first, third = (
        format(found[key], digits) for key in ("median", "first_quartile", "third_quartile")
    )
    return f"{median} ({first} to {third})"
