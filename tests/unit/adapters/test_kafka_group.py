"""Positions of a consumer group: acknowledged once a power cut can no longer undo what was taken."""

from __future__ import annotations

from aiokafka import TopicPartition

from orchestrator.adapters.kafka_group import Settling

ONE, TWO = TopicPartition("actions", 1), TopicPartition("actions", 2)


def test_positions_count_once_they_were_reached_long_enough_ago() -> None:
    taken = Settling(2.0)
    taken.add({ONE: 5, TWO: 3}, 10.0)
    taken.add({ONE: 7}, 11.0)
    assert taken.settled(11.9) == {}
    assert taken.settled(12.0) == {ONE: 5, TWO: 3}
    assert taken.settled(12.9) == {}
    taken.add({ONE: 9}, 12.95)
    assert taken.settled(13.0) == {ONE: 7}
    assert taken.settled(20.0) == {ONE: 9}
    assert taken.settled(30.0) == {}
