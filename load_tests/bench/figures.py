"""What was measured: samples by name, one a round, and their medians; kept as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self


@dataclass(slots=True)
class Figures:
    """Samples by dotted name (``worker.per_s``), curves by name as points, and what they were measured on."""

    about: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def add(self, **named: float) -> None:
        """Add one sample to each; two underscores in a name stand for the dot."""
        for name, value in named.items():
            self.samples.setdefault(name.replace("__", "."), []).append(value)

    def point(self, curve: str, **values: float) -> None:
        """Add a point to a curve."""
        self.curves.setdefault(curve, []).append(values)

    def of(self, name: str) -> float | None:
        """Return the median of the samples of a name; None when there are none."""
        return median(self.samples[name]) if self.samples.get(name) else None

    def ratio(self, name: str, to: str) -> float | None:
        """Return the median over the rounds of one figure's ratio to another, round by round, so that drift cancels."""
        pairs = [a / b for a, b in zip(self.samples.get(name, ()), self.samples.get(to, ()), strict=False) if b]
        return median(pairs) if pairs else None

    def along(self, curve: str, **where: float) -> dict[str, float] | None:
        """Return the first point of a curve at which the named values hold, or None."""
        for point in self.curves.get(curve, ()):
            if all(point.get(name) == value for name, value in where.items()):
                return point
        return None

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        content = {"about": self.about, "samples": self.samples, "curves": self.curves}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
