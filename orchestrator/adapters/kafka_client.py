"""What every client of Kafka shares: how its errors cross the border of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from orchestrator.errors import LogUnavailable


@contextmanager
def translated(bootstrap: str) -> Iterator[None]:
    """Raise ``LogUnavailable``, naming the brokers, for whatever Kafka's client raises or fails to do in time."""
    try:
        yield
    except OffsetOutOfRangeError:
        raise
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"Kafka at {bootstrap}: {str(error) or type(error).__name__}") from error
