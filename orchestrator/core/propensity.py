"""Propensity: how likely an action is to succeed, learned from outcomes while the engine runs.

Thompson sampling over Beta-Bernoulli arms (Thompson 1933; Chapelle and Li, "An Empirical Evaluation of
Thompson Sampling", 2011): each (action, segment) has a Beta posterior, a draw from it is the propensity, and
success or failure updates it. Evidence decays with a half-life, so that the engine notices a changed
world; in a minimum share of decisions every arm draws from the prior, so that none is ever given up.

The draw is a hash of the decision's identity, not a random number: a replay draws the same. The arms are
state of the partition, changed only between two decisions, in log order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import msgspec

from orchestrator.core.chance import lot

HALF_LIFE_MS = 30 * 86_400_000
EXPLORATION = 0.05


class Lesson(msgspec.Struct, frozen=True):
    """What an outcome teaches: whether an action for a customer of a segment succeeded."""

    action: str
    segment: str
    success: bool
    at_ms: int


class Propensity(Protocol):
    """A model of success. ``propensity`` must depend on its arguments and on the lessons learned, on nothing else."""

    def propensity(self, action: str, segment: str, decision: str, at_ms: int) -> float:
        """Return a number in [0, 1]; ``decision`` identifies what is being decided."""
        ...

    def learn(self, lesson: Lesson) -> None:
        """Take an outcome in."""
        ...


class Arm(msgspec.Struct, array_like=True):
    """Decayed successes and failures of one (action, segment) as of ``at_ms``, without the prior."""

    successes: float = 0.0
    failures: float = 0.0
    at_ms: int = 0


class BetaBernoulli:
    """The built-in model. ``arms`` is all it knows; store it to remember."""

    def __init__(self, arms: dict[str, Arm] | None = None) -> None:
        self.arms = {} if arms is None else arms

    def propensity(self, action: str, segment: str, decision: str, at_ms: int) -> float:
        """Return a Thompson draw; in a decision that explores, from the prior instead of the posterior."""
        arm = self.arms.get(_name(action, segment))
        if arm is None or lot("explore", decision) < EXPLORATION:
            return lot("prior", decision, action)
        keep = _kept(arm, at_ms)
        return _beta_draw(1 + arm.successes * keep, 1 + arm.failures * keep, f"{decision}\x1f{action}")

    def learn(self, lesson: Lesson) -> None:
        """Add one outcome to what is left of the earlier ones."""
        name = _name(lesson.action, lesson.segment)
        arm = self.arms.get(name, Arm(at_ms=lesson.at_ms))
        keep = _kept(arm, lesson.at_ms)
        self.arms[name] = Arm(
            arm.successes * keep + lesson.success,
            arm.failures * keep + (not lesson.success),
            max(arm.at_ms, lesson.at_ms),
        )


def _name(action: str, segment: str) -> str:
    return f"{action}|{segment}"


def _kept(arm: Arm, at_ms: int) -> float:
    """Return the share of the evidence that is left."""
    return float(0.5 ** (max(0, at_ms - arm.at_ms) / HALF_LIFE_MS))


def _uniforms(identity: str) -> Iterator[float]:
    number = 0
    while True:
        yield max(lot("draw", identity, str(number)), 1e-12)
        number += 1


def _beta_draw(alpha: float, beta: float, identity: str) -> float:
    """Return a draw from Beta(alpha, beta), both at least 1, made from the hashes of ``identity``."""
    uniforms = _uniforms(identity)
    first, second = _gamma_draw(alpha, uniforms), _gamma_draw(beta, uniforms)
    return first / (first + second)


def _gamma_draw(shape: float, uniforms: Iterator[float]) -> float:
    """Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", 2000; shape at least 1."""
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        normal = math.sqrt(-2 * math.log(next(uniforms))) * math.cos(2 * math.pi * next(uniforms))
        v = (1 + c * normal) ** 3
        if v > 0 and math.log(next(uniforms)) < 0.5 * normal * normal + d - d * v + d * math.log(v):
            return d * v
