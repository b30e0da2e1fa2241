"""Ids of customers: which texts are none."""

from __future__ import annotations

#: Ids that stand for nobody: what programs write where they know of no id, in any case of letters.
NOBODY = (
    *(
        "undefined",
        "null",
        "none",
        "nil",
        "nan",
        "void",
        "n/a",
        "na",
        "(null)",
        "<null>",
        "[object object]",
        "{}",
        "[]",
    ),
    *("anonymous", "guest", "unknown", "not_authenticated", "distinct_id", "true", "false", "0", "-1"),
    "00000000-0000-0000-0000-000000000000",
)
