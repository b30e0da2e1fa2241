"""Quix Streams with state in RocksDB and a changelog, doing the same journey by hand, as its documentation shows.

It runs in an environment of its own (``make bench`` makes it), because it wants other versions of shared libraries.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State

from load_tests.bench.contenders.shop_by_hand import applied
from load_tests.bench.contenders.stopwatch import Stopwatch, options


def main() -> None:
    """Drain and report."""
    given = options(__doc__).parse_args()
    watch = Stopwatch(warm=given.warm, events=given.events)

    def passed(_topic: str, _partition: int, _offset: int) -> None:
        watch.passed()
        if watch.done:
            app.stop()

    app = Application(
        broker_address=given.bootstrap,
        consumer_group=given.name,
        auto_offset_reset="earliest",
        state_dir=given.folder,
        loglevel=None,
        on_message_processed=passed,
    )
    events = app.topic(given.topic, key_deserializer="str", value_deserializer="json")
    sent = app.topic(f"{given.name}-actions", key_serializer="str", value_serializer="json")

    def decide(event: dict[str, Any], state: State) -> list[dict[str, Any]]:
        customer, actions = applied(state.get("customer"), event)
        state.set("customer", customer)
        return actions

    app.dataframe(events).apply(decide, stateful=True, expand=True).to_topic(sent)
    app.run()
    watch.report()


if __name__ == "__main__":
    main()
