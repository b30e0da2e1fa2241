"""A Redis Cluster of nodes on this machine, each with its share of the slots and no replica."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import redis

from load_tests.servers.process import Say, ServerFailed, free_port, silent
from load_tests.servers.redis import LocalRedis

_SLOTS = 16_384
_FORMED_WITHIN_S = 30


class RedisClusterNode(LocalRedis):
    """One node; it refuses every command whose keys are not of one slot, and every slot that is not its own."""

    def __init__(self, folder: Path, *, say: Say = silent) -> None:
        """Prepare a node under ``folder``."""
        super().__init__(folder, say=say)
        self.bus_port = free_port()

    def options(self) -> dict[str, str]:
        """Return what the server is told."""
        cluster = {"cluster-enabled": "yes", "cluster-port": str(self.bus_port), "cluster-node-timeout": "2000"}
        return super().options() | cluster


class LocalRedisCluster:
    """Nodes that know each other. Used as a context manager it is started and stopped."""

    def __init__(self, folder: Path, *, nodes: int = 2, say: Say = silent) -> None:
        """Prepare a cluster of ``nodes`` under ``folder``."""
        self.nodes: Sequence[RedisClusterNode] = [
            RedisClusterNode(folder / f"node-{number}", say=say) for number in range(1, nodes + 1)
        ]

    @property
    def url(self) -> str:
        """Where clients ask for the others."""
        return self.nodes[0].url

    def start(self) -> Self:
        """Start the nodes and return when every slot is served."""
        for node in self.nodes:
            node.start()
        clients: list[Any] = [redis.Redis(port=node.port) for node in self.nodes]
        share = _SLOTS // len(self.nodes)
        for number, client in enumerate(clients):
            last = _SLOTS - 1 if client is clients[-1] else (number + 1) * share - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
            if number:
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, self.nodes[0].bus_port)
        deadline = time.monotonic() + _FORMED_WITHIN_S
        while not all(_whole(client) for client in clients):
            if time.monotonic() > deadline:
                raise ServerFailed(f"The nodes of the cluster at {self.url} did not find each other.")
            time.sleep(0.1)
        for client in clients:
            client.close()
        return self

    def stop(self) -> None:
        """End the nodes."""
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _whole(client: Any) -> bool:
    return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
