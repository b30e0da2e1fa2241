"""``python -m connectors.conformance [TYPE ...]``: the suite over types that other packages announce.

Exit code 0 when every promise is kept, 1 when one is broken, 2 when there is nothing, or no example, to check.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from connectors.conformance.bench import Example
from connectors.conformance.suite import EXAMPLE_GROUP, announced_examples, findings
from connectors.connector_type import ConnectorType
from connectors.registry import BUILT_IN, connector_types


def main(arguments: list[str] | None = None) -> int:
    """Run the suite as the arguments (the process's own when None) say and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m connectors.conformance", description=__doc__)
    parser.add_argument(
        "types", nargs="*", metavar="TYPE", help="types to check; all announced ones when there is none"
    )
    wanted = set(parser.parse_args(arguments).types)
    examples = announced_examples()
    others = [known for known in connector_types() if known not in BUILT_IN]
    chosen = [known for known in others if not wanted or known.type in wanted]
    if missing := sorted(wanted - {known.type for known in chosen}):
        return _wrong_use(f"No installed package announces the type {', '.join(missing)} under journey.connectors.")
    if not chosen:
        return _wrong_use("No installed package announces a type under journey.connectors, so nothing was checked.")
    if missing := sorted({known.type for known in chosen} - set(examples)):
        return _wrong_use(f"The type {', '.join(missing)} has no example: announce one under {EXAMPLE_GROUP}.")
    return asyncio.run(_told(chosen, examples))


def _wrong_use(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - this is a command.
    return 2


async def _told(chosen: list[ConnectorType], examples: dict[str, Example]) -> int:
    kept = broken = 0
    async for finding in findings(chosen, examples):
        sentence = finding.promise.replace("_", " ")
        if finding.broken is None:
            kept += 1
            print(f"kept    {finding.type}: {sentence}")  # noqa: T201 - this is a command.
        else:
            broken += 1
            print(f"BROKEN  {finding.type}: {sentence}\n        {finding.broken}")  # noqa: T201 - this is a command.
    print(f"{kept} promises kept, {broken} broken")  # noqa: T201 - this is a command.
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
