"""The curves as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from load_tests.bench.figures import Figures
from load_tests.bench.probe import SPANS

mpl.use("Agg")

from matplotlib import pyplot as plt

_CONTENDERS = {
    "read": "(a) read, decode",
    "read_write": "(b) and write",
    "worker": "worker",
    "quix": "(d) Quix Streams",
    "faust": "(c) Faust agent",
}


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Write one PNG for each curve that was measured; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [
        _throughput(figures, folder / "throughput.png"),
        _latency(figures, folder / "latency.png"),
        _curve(figures, folder / "rules.png", "core.rules", "rules", "decide_us", "us an event, the core alone"),
        _curve(
            figures, folder / "history.png", "core.history", "events", "with_state_us", "us an event, the core alone"
        ),
        _curve(figures, folder / "customers.png", "customers", "customers", "per_cpu_s", "events a second of CPU"),
        _curve(figures, folder / "redis.png", "customers", "customers", "redis_bytes", "bytes of Redis a customer"),
        _curve(figures, folder / "recovery.png", "customers", "customers", "recovery_s", "s from a kill to going on"),
        _scaling(figures, folder / "scaling.png"),
    ]
    return [path for path in drawn if path is not None]


def _throughput(figures: Figures, path: Path) -> Path | None:
    found = {words: speed for name, words in _CONTENDERS.items() if (speed := figures.of(f"{name}.per_s"))}
    if not found:
        return None
    picture, axes = plt.subplots(figsize=(7, 3.5))
    bars = axes.barh(list(found), list(found.values()), color="#4878a8")
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    return _saved(picture, axes, path, "events/s, one core each", "")


def _latency(figures: Figures, path: Path) -> Path | None:
    lines = [(name, span, figures.curves.get(f"{name}.{span}_ms")) for name in ("at_20", "at_80") for span in SPANS]
    if not any(points for _, _, points in lines):
        return None
    picture, axes = plt.subplots(figsize=(7, 4))
    for name, span, points in lines:
        if points:
            # As in HDR plots, every nine of the percentile takes the same room.
            nines = [1 / max(1e-4, 1 - point["percentile"] / 100) for point in points]
            axes.plot(nines, [point["ms"] for point in points], marker=".", label=f"{name[3:]} %, {span}")
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 10, 100, 1_000, 10_000], ["0", "50", "90", "99", "99.9", "99.99"])
    axes.legend()
    return _saved(picture, axes, path, "percentile", "ms")


def _curve(figures: Figures, path: Path, curve: str, x: str, y: str, label: str) -> Path | None:
    points = sorted(figures.curves.get(curve, ()), key=lambda point: point[x])
    if not points:
        return None
    picture, axes = plt.subplots(figsize=(6, 3.5))
    axes.plot([point[x] for point in points], [point[y] for point in points], marker="o", color="#4878a8")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    return _saved(picture, axes, path, x, label)


def _scaling(figures: Figures, path: Path) -> Path | None:
    points = figures.curves.get("scaling", [])
    if not points:
        return None
    picture, axes = plt.subplots(figsize=(6, 3.5))
    for workers in sorted({point["workers"] for point in points}):
        chosen = sorted((one for one in points if one["workers"] == workers), key=lambda one: one["partitions"])
        label = f"{workers:.0f} worker{'s' if workers > 1 else ''}"
        axes.plot([one["partitions"] for one in chosen], [one["per_s"] for one in chosen], marker="o", label=label)
    axes.set_ylim(bottom=0)
    axes.legend()
    return _saved(picture, axes, path, "partitions", "events/s")


def _saved(picture: Any, axes: Any, path: Path, x: str, y: str) -> Path:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    picture.tight_layout()
    picture.savefig(path, dpi=110)
    plt.close(picture)
    return path
