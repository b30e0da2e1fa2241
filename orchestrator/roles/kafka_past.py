"""What ``journey.events`` holds in Kafka, for a backtest."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.adapters.kafka_client import Brokers
from orchestrator.adapters.kafka_log import KafkaLogReader
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.core.event import Event
from orchestrator.runtime.eventfile import RefusedLine, events_of
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.ports import EVENTS, Record
from orchestrator.settings import Settings


def numbering(settings: Settings, intake: Intake) -> Callable[[str], int]:
    """Return the function that tells a customer's partition."""
    return lambda customer_id: partition_of(intake.key(customer_id), settings.partitions)


async def events_of_kafka(settings: Settings, intake: Intake) -> list[Event | RefusedLine]:
    """Return what the topic holds now, in order of the log's stamps; order per customer is kept."""
    reader = KafkaLogReader(Brokers.of(settings))
    firsts, ends = await reader.beginning_offsets(EVENTS), await reader.end_offsets(EVENTS)
    records: list[Record] = []
    for partition, end in ends.items():
        first = firsts[partition]
        if first >= end:
            continue
        async for batch in reader.read(EVENTS, partition, first):
            records += [record for record in batch if record.offset < end]
            if batch[-1].offset + 1 >= end:
                break
    records.sort(key=lambda record: (record.stamp_ms, record.partition, record.offset))
    return [one for record in intake.keys.own(records) for one in events_of(record, intake)]
