"""A relay in front of a real broker: it hears what a producer publishes, and can keep the broker's answers back.

It reads just enough of the protocol: which request a response answers, the records of a Produce request (versions 3
to 8), and the broker's own address in Metadata, which it replaces so that every connection comes through here.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiokafka.record import MemoryRecords

from connectors.conformance.bench import Exchange, How

_PRODUCE, _METADATA = 0, 3


class KafkaRelay:
    """A bench: ``base`` is what clients connect to. Produce requests are heard as one exchange for each record."""

    refusal = "takes no record of this size (max.message.bytes)"
    retry_after_s = None

    def __init__(self, bootstrap: str, *, topic: str, small_topic: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self.heard: list[Exchange] = []
        self._broker = host, int(port)
        self._topic, self._small_topic = topic, small_topic
        self._how = How.OK
        self._port = self._refusing_port = 0
        self._pipes: set[asyncio.Task[None]] = set()

    @property
    def base(self) -> str:
        return f"127.0.0.1:{self._refusing_port if self._how is How.GONE else self._port}"

    @property
    def topic(self) -> str:
        """The topic to publish to; to be refused, one that takes small records alone."""
        return self._small_topic if self._how is How.REFUSE else self._topic

    async def answers(self, how: How) -> None:
        self._how = how

    @asynccontextmanager
    async def running(self, refusing_port: int) -> AsyncIterator[KafkaRelay]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port, self._refusing_port = server.sockets[0].getsockname()[1], refusing_port
        try:
            yield self
        finally:
            server.close()
            for pipe in self._pipes:
                pipe.cancel()
            await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        to_reader, to_writer = await asyncio.open_connection(*self._broker)
        asked: dict[int, int] = {}
        requests = asyncio.create_task(self._requests(reader, to_writer, asked))
        try:
            await self._responses(to_reader, writer, asked, requests)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            requests.cancel()
            await asyncio.gather(requests, return_exceptions=True)
            writer.close()
            to_writer.close()
            self._pipes.discard(task)

    async def _requests(
        self, reader: asyncio.StreamReader, broker: asyncio.StreamWriter, asked: dict[int, int]
    ) -> None:
        try:
            while True:
                frame = await _frame(reader)
                kind, version, correlation = struct.unpack_from(">hhi", frame)
                asked[correlation] = kind
                if kind == _PRODUCE:
                    self._hear(frame, version)
                broker.write(struct.pack(">i", len(frame)) + frame)
        finally:
            broker.close()

    async def _responses(
        self,
        broker: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: dict[int, int],
        requests: asyncio.Task[None],
    ) -> None:
        while not requests.done():
            frame = await _frame(broker)
            kind = asked.pop(struct.unpack_from(">i", frame)[0])
            if kind == _PRODUCE:
                if self._how is How.HANG:
                    continue
                self._answered(frame)
            elif kind == _METADATA:
                host, port = self._broker
                frame = frame.replace(_address(host, port), _address(host, self._port))
            writer.write(struct.pack(">i", len(frame)) + frame)
            await writer.drain()

    def _hear(self, frame: bytes, version: int) -> None:
        assert 3 <= version <= 8, f"the relay reads no Produce request of version {version}"
        at = 8
        for _ in range(2):  # the client's name, the transaction's
            at = _text(frame, at)[1]
        acks, _timeout, _topics = struct.unpack_from(">hii", frame, at)
        topic, at = _text(frame, at + 10)
        _partitions, _partition, size = struct.unpack_from(">iii", frame, at)
        for record in _records(frame[at + 12 : at + 12 + size]):
            said: dict[str, Any] = {
                "topic": topic,
                "acks": acks,
                "key": record.key.decode(),
                "headers": {name: value.decode() for name, value in record.headers},
                "timestamp": record.timestamp,
                "value": record.value.decode(),
            }
            self.heard.append(Exchange(request=said, answer=None))

    def _answered(self, frame: bytes) -> None:
        """Keep the broker's verdict on what is still without one; a batch is answered before the next is sent."""
        _topic, at = _text(frame, 8)
        _partitions, _partition, error = struct.unpack_from(">iih", frame, at)
        self.heard = [
            one if one.answer is not None else replace(one, answer={"error_code": error}) for one in self.heard
        ]


def _records(data: bytes) -> list[Any]:
    batches, found = MemoryRecords(data), []
    while (batch := batches.next_batch()) is not None:
        found += list(batch)
    return found


def _text(frame: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">h", frame, at)
    end = at + 2 + max(0, length)
    return frame[at + 2 : end].decode(), end


def _address(host: str, port: int) -> bytes:
    return host.encode() + struct.pack(">i", port)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)
