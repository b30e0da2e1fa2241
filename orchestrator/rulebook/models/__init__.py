"""The rule language as pydantic models: the shape of every file, with every key described.

Checks within one value live here; checks across keys, files and names live in ``build`` and ``lint``.
"""
