"""Real Kafka and Redis on this machine, for integration tests, load tests and the fault harness.

``LocalKafka`` and ``LocalRedis`` are child processes on free loopback ports with data folders of their own.
They block while they start; from a running event loop call them through ``asyncio.to_thread``.
"""

from load_tests.servers.kafka import KAFKA_VERSION, LocalKafka
from load_tests.servers.process import ServerFailed, ServerProcess, free_port
from load_tests.servers.redis import LocalRedis
from load_tests.servers.redis_cluster import LocalRedisCluster

__all__ = [
    "KAFKA_VERSION",
    "LocalKafka",
    "LocalRedis",
    "LocalRedisCluster",
    "ServerFailed",
    "ServerProcess",
    "free_port",
]
