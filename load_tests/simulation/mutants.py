"""Mutants: the engine with one known defect each. The simulation is worth as much as it notices of them.

Each says in its docstring what it does wrong, and ``caught_by`` which invariants may notice it first.
"""

from __future__ import annotations

from load_tests.simulation import decision_mutants as decision
from load_tests.simulation import delivery_mutants as delivery
from load_tests.simulation.mutant import Mutant

MUTANTS: tuple[type[Mutant], ...] = (
    decision.ForgetsTheOutbox,
    decision.PublishesFirst,
    decision.OffsetFirst,
    decision.TrimsFirst,
    decision.TimersFirst,
    decision.TakesSilenceForYes,
    decision.Unfenced,
    decision.ForgetsWhatItSaw,
    decision.LosesTheSecond,
    decision.KeepsTheErased,
    decision.NeverExits,
    decision.ActsOutside,
    decision.WaitsTooLong,
    decision.TakesNothingBack,
    decision.EventBeforeTimer,
    delivery.LedgerFirst,
    delivery.AcknowledgesFirst,
    delivery.ClaimsWithoutLease,
    delivery.RateOfItsOwn,
    delivery.GivesUpAtOnce,
    delivery.ExpiresEarly,
    delivery.ForgetsDeadlines,
    delivery.WatchesNoDeadline,
    delivery.AlwaysRetries,
    delivery.AlwaysDrops,
    delivery.SendsNothing,
    delivery.KeepsAsking,
    delivery.NeverFallsBack,
    delivery.FallsBackInDoubt,
    delivery.BelievesTheLastAttempt,
    delivery.TellsNoDoubt,
    delivery.TellsOfDelivery,
    delivery.IgnoresWithdrawals,
)
