"""The decision core: a pure function from facts to a decision.

Nothing here performs I/O, reads a clock, draws a random number or starts a thread. Replay, simulation,
backtest, explain and production all call the same code, so they all decide alike.
"""
