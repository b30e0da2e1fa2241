"""The fault harness: real processes under a seeded nemesis, checked by an oracle that shares no code with the engine.

    python -m load_tests.faults [--only NAME ...] [--seed N] [--short]

``catalogue`` lists the faults, ``ground`` is what they are done to, ``verdict`` what must hold afterwards.
"""
