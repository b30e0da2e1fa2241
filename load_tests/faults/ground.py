"""The ground on which faults happen: a whole deployment under load, watched from outside, judged when it is at rest.

Everything blocks and belongs to the main thread, which starts every process: so the kernel ends them with it.
A role that ends by itself is started again at once, as any supervisor would, and told of in the account.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import redis

from load_tests.deployment import Deployment
from load_tests.faults.expectation import CONNECTORS, REST_MS, RULES, Expectation, expectation
from load_tests.faults.load import Load
from load_tests.faults.log_view import LogView
from load_tests.faults.role_logs import Expected, RoleLogs, unexpected
from load_tests.faults.story import Event
from load_tests.faults.verdict import Bounds, Record, Verdict, compare
from load_tests.processes import RoleProcess, until
from load_tests.servers.process import Say, ServerFailed, silent
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.core.action import action_id
from orchestrator.core.state import CustomerState, decode_state
from orchestrator.rulebook.load import load_rulebook
from orchestrator.runtime.ports import ACTIONS, EVENTS
from orchestrator.runtime.rulebooks import compile_loaded

DISPATCHER_GROUP = "journey-dispatcher"
#: What the receiver logs when an id comes again.
REPEAT = re.compile(r"connectors\.receiver  repeat of (\S+) at ")

now_ms = SystemClock().now_ms


class Ground:
    """A deployment over the harness's rules. Used as a context manager it is started and ended."""

    def __init__(
        self, folder: Path, *, workers: int = 3, partitions: int = 8, rate: int = 60, say: Say = silent
    ) -> None:
        """``rate`` is the usual load, in events a second."""
        self.folder = folder
        self.partitions = partitions
        self.rate = rate
        self.say = say
        self.deployment = Deployment(folder, RULES, workers=workers, partitions=partitions, say=say)
        self.view = LogView(self.deployment.kafka.bootstrap)
        self.store = redis.Redis(port=self.deployment.redis.port, socket_timeout=5)
        self.record = Record(self.deployment.record)
        #: Roles that ended by themselves and were started again: the role and its last words.
        self.exits: list[tuple[str, str]] = []
        self._watch = next(iter(compile_loaded(load_rulebook(RULES), "default").watches))
        self._loads = 0
        self._canaries = 0
        self._canary_calls: set[str] = set()
        self._logs = RoleLogs(folder)
        self._away: set[RoleProcess] = set()
        self._last_arrival_ms = 0

    def __enter__(self) -> Self:
        try:
            self.deployment.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process."""
        self.store.close()
        self.view.close()
        self.deployment.close()

    # -------------------------------------------------------------------------------------------- load

    @contextmanager
    def load(
        self, run: str, seed: int, *, disorder: bool = False, rate: int = 0, customers: int = 40
    ) -> Iterator[Load]:
        """Put the deployment under load until the block ends; return once a first event was acknowledged.

        Raises ``ServerFailed`` when the load had an answer that it should not get, or not all was acknowledged.
        """
        self._loads += 1
        load = Load(
            self.folder / f"load-{self._loads}",
            run=run,
            seed=seed,
            rate=rate or self.rate,
            url=self.deployment.gateway.url,
            customers=customers,
            disorder=disorder,
            say=self.say,
        )
        load.start()
        try:
            yield load
        finally:
            load.stop(timeout_s=150)
        if load.exit_code != 0:
            raise ServerFailed(f"the load ended with {load.exit_code}; see {load.log_path}")

    def post(self, events: Sequence[Mapping[str, Any]], *, within_s: float = 60) -> None:
        """Post events until they are acknowledged."""
        with self.deployment.client() as client:

            def taken() -> bool:
                try:
                    return client.post("/v1/events", json=list(events)).is_success
                except httpx.TransportError:
                    return False

            self.until(taken, within_s=within_s, because="the gateway takes events", pause_s=0.1)

    # -------------------------------------------------------------------------------------- supervision

    def revive(self) -> None:
        """Start what has ended by itself, and keep its last words."""
        for role in self.roles():
            if self._ended(role):
                role.launch()

    def kill(self, *roles: RoleProcess) -> None:
        """Kill roles at once; they stay away until they are launched. One that had ended before is told of."""
        for role in roles:
            if not self._ended(role) and role.running:
                # To all before the first is waited for, which takes long enough for the others to go on.
                os.kill(role.pid, signal.SIGKILL)
            self._away.add(role)
        for role in roles:
            role.kill()

    def stop(self, *roles: RoleProcess) -> None:
        """Ask roles to end and wait for it; they stay away until they are launched."""
        for role in roles:
            self._ended(role)
            self._away.add(role)
            role.stop()

    def launch(self, *roles: RoleProcess) -> None:
        """Begin to start roles that were ended."""
        for role in roles:
            role.launch()
            self._away.discard(role)

    def roles(self) -> list[RoleProcess]:
        """Return the roles that should run."""
        deployment = self.deployment
        return [deployment.gateway, deployment.receiver, *deployment.dispatchers, *deployment.workers]

    def _ended(self, role: RoleProcess) -> bool:
        """Return whether a role has ended by itself, after its last words were noted."""
        ended = not role.running and role not in self._away
        if ended:
            said = [one for one in role.said().splitlines() if one.strip()]
            self.exits.append((role.name, said[-1] if said else ""))
        return ended

    def until(self, condition: Callable[[], Any], *, within_s: float, because: str, pause_s: float = 0.02) -> Any:
        """Wait for a condition, starting again what ends meanwhile."""

        def asked() -> Any:
            self.revive()
            return condition()

        return until(asked, within_s=within_s, because=because, pause_s=pause_s)

    def await_roles(self) -> None:
        """Return when every role answers."""
        for role in self.roles():
            self.until(role.ready, within_s=60, because=f"{role.name} answers", pause_s=0.05)

    # ---------------------------------------------------------------------------------------- progress

    def positions(self) -> dict[int, int]:
        """Return the stored offset of record of every partition."""
        return {one: int(found or 0) for one, found in enumerate(self._meta("next_offset"))}

    def epochs(self) -> dict[int, int]:
        """Return how often each partition has been taken."""
        return {one: int(found or 0) for one, found in enumerate(self._meta("epoch"))}

    def unpublished(self) -> int:
        """Return how many records stand in outboxes now: decided and stored, not yet known to be published."""
        return sum(self.outboxes().values())

    def outboxes(self) -> dict[int, int]:
        """Return how many records stand in the outbox of each partition now."""
        with self.store.pipeline(transaction=False) as pipeline:
            for partition in range(self.partitions):
                pipeline.llen(_key(partition, "outbox"))
            return dict(enumerate(pipeline.execute()))

    def owners(self) -> dict[int, RoleProcess]:
        """Return of each partition the running worker that was the last to tell that it took it."""
        said = [(one, one.said()) for one in self.deployment.workers if one.running]
        found: dict[int, RoleProcess] = {}
        for partition in range(self.partitions):
            told = [(taken_epoch(words, partition), place) for place, (_, words) in enumerate(said)]
            if told and max(told)[0]:
                found[partition] = said[max(told)[1]][0]
        return found

    def under_way(self) -> Counter[str]:
        """Return how many actions of each connector dispatchers have claimed now and not yet settled."""
        connectors = sorted(set(CONNECTORS.values()))
        with self.store.pipeline(transaction=False) as pipeline:
            for connector in connectors:
                pipeline.zcard(f"{{journey:default:q:{connector}}}:leases")
            return Counter(dict(zip(connectors, pipeline.execute(), strict=True)))

    def queued(self) -> int:
        """Return how many actions dispatchers have taken and not yet settled, claimed or not."""
        with self.store.pipeline(transaction=False) as pipeline:
            for connector in set(CONNECTORS.values()):
                pipeline.hlen(f"{{journey:default:q:{connector}}}:ranks")
            return sum(pipeline.execute())

    def await_progress(self, since: float, *, within_s: float = 60) -> float:
        """Return the seconds from ``since`` until every partition has applied what the log held, and more.

        ``since`` is a moment of ``time.monotonic``. The load must be running.
        """
        ends = self.patiently(lambda: self.view.ends(EVENTS))

        def moved() -> bool:
            positions = self.patiently(self.positions)
            return all(positions[one] > end for one, end in ends.items())

        self.until(moved, within_s=within_s, because="every partition goes on")
        return time.monotonic() - since

    def await_deliveries(self, since: float, *, within_s: float = 60) -> float:
        """Return the seconds from ``since`` until dispatchers have taken what was decided, and more."""
        ends = self.patiently(lambda: self.view.ends(ACTIONS))

        def moved() -> bool:
            taken = self.patiently(lambda: self.view.committed(DISPATCHER_GROUP, ACTIONS))
            return all(taken.get(one, 0) > end for one, end in ends.items())

        self.until(moved, within_s=within_s, because="the dispatcher goes on", pause_s=0.1)
        return time.monotonic() - since

    def patiently(self, ask: Callable[[], Any], *, within_s: float = 60) -> Any:
        """Return the answer of a server that may be away for a while."""
        answer: list[Any] = []

        def answered() -> bool:
            try:
                answer.append(ask())
            except (redis.RedisError, OSError, TimeoutError, RuntimeError):
                return False
            except Exception as error:
                if type(error).__module__.startswith("aiokafka"):
                    return False
                raise
            return True

        self.until(answered, within_s=within_s, because="Kafka or Redis answers the harness", pause_s=0.1)
        return answer[0]

    def last_arrival_s(self, since: float) -> float:
        """Return the seconds from ``since`` until the last arrival that was judged."""
        return self._last_arrival_ms / 1000 - (now_ms() / 1000 - time.monotonic()) - since

    # ----------------------------------------------------------------------------------------- judgement

    def judge(
        self,
        run: str,
        sent: Sequence[Event],
        acknowledged: Sequence[str],
        *,
        bounds: Bounds | None = None,
        expected_words: Sequence[Expected] = (),
        within_s: float = 60,
    ) -> Verdict:
        """Bring the deployment to rest and compare everything about the run's customers with the oracle.

        ``bounds`` say what the fault may cost, ``expected_words`` which errors and ends of roles it may cause.
        """
        time.sleep(REST_MS / 1000)
        canaries = self._pass_canaries(within_s)
        records = self.patiently(lambda: self.view.fresh(EVENTS))
        until_ms = min(one.timestamp for one in records if one.key in canaries)
        mine = [one for one in records if (one.key or b"").startswith(f"{run}-".encode())]
        expected = expectation(mine, self._watch, until_ms)
        arrivals = self._await_effects(run, expected, within_s)
        self._last_arrival_ms = max((one["at_ms"] for one in arrivals if one["id"] in expected.due), default=0)
        self._canary_calls |= {_callback(name.decode(), f"{name.decode()}-asks") for name in canaries}
        said = self._logs.fresh()
        verdict = compare(
            expected,
            sent={one["id"]: one for one in sent},
            acknowledged=acknowledged,
            arrivals=[one for one in arrivals if one["id"] not in self._canary_calls],
            states=self._states(expected.standings),
            repeats=Counter(found for line in said for found in REPEAT.findall(line.words)),
            published=self._published(run),
            bounds=bounds or Bounds(),
        )
        verdict.broken += unexpected(said, self.exits, expected_words)
        return verdict

    def _pass_canaries(self, within_s: float) -> set[bytes]:
        """Send a lead through every partition and return their customers once all have been applied."""
        self._canaries += 1
        chosen: dict[int, str] = {}
        number = 0
        while len(chosen) < self.partitions:
            name = f"canary-{self._canaries}-{number}"
            chosen.setdefault(partition_of(name.encode(), self.partitions), name)
            number += 1
        events = [_lead(name) for name in chosen.values()]
        self.post(events, within_s=within_s)
        ends = self.patiently(lambda: self.view.ends(EVENTS))

        def applied() -> bool:
            positions = self.patiently(self.positions)
            return all(positions[one] >= end for one, end in ends.items())

        self.until(applied, within_s=within_s, because="the canaries were applied")
        return {name.encode() for name in chosen.values()}

    def _await_effects(self, run: str, expected: Expectation, within_s: float) -> list[dict[str, Any]]:
        """Return what has arrived once everything has and has been told of, or time is up."""
        arrivals: list[dict[str, Any]] = []
        deadline = time.monotonic() + within_s
        while True:
            self.revive()
            arrivals += self.record.fresh()
            told = [
                one
                for one in self.patiently(lambda: self.view.fresh(EVENTS))
                if (one.key or b"").startswith(f"{run}-".encode())
            ]
            heard = expectation(told, self._watch, 0)
            expected.doubtful |= heard.doubtful
            for one, words in heard.receipts.items():
                expected.receipts.setdefault(one, {}).update(words)
            arrived = {one["id"] for one in arrivals}
            failed = {one for one, words in expected.receipts.items() if "action_failed" in words}
            missing = expected.due.keys() - expected.withdrawn - arrived - failed
            if not missing and not expected.due.keys() - expected.receipts.keys():
                return arrivals
            if time.monotonic() > deadline:
                return arrivals
            time.sleep(0.2)

    def _published(self, run: str) -> list[str]:
        """Return the ids of the run's actions as often as they came to the topic since the last judgement."""
        records = self.patiently(lambda: self.view.fresh(ACTIONS, "judge"))
        actions = [json.loads(one.value) for one in records if (one.key or b"").startswith(f"{run}-".encode())]
        return [one["id"] for one in actions if not one.get("cancel")]

    def _states(self, customers: Mapping[str, Any]) -> dict[str, CustomerState]:
        """Return the stored states of customers."""
        found: dict[str, CustomerState] = {}
        by_partition: dict[int, list[str]] = {}
        for name in customers:
            by_partition.setdefault(partition_of(name.encode(), self.partitions), []).append(name)
        for partition, names in by_partition.items():
            values: Any = self.store.hmget(_key(partition, "states"), names)
            found |= {name: decode_state(one) for name, one in zip(names, values, strict=True) if one is not None}
        return found

    def _meta(self, field: str) -> list[Any]:
        with self.store.pipeline(transaction=False) as pipeline:
            for partition in range(self.partitions):
                pipeline.hget(_key(partition, "meta"), field)
            return list(pipeline.execute())


def taken_epoch(said: str, partition: int) -> int:
    """Return the epoch under which a worker last told that it took a partition, 0 when it never did."""
    told = re.findall(rf"  partition {partition}: epoch (\d+), from offset", said)
    return int(told[-1]) if told else 0


def _key(partition: int, name: str) -> str:
    return f"{{journey:default:p{partition}}}:{name}"


def _lead(customer: str) -> dict[str, Any]:
    return {
        "id": f"{customer}-asks",
        "type": "lead_submitted",
        "customer_id": customer,
        "occurred_at": now_ms(),
        "properties": {"number": 0},
    }


def _callback(customer: str, event_id: str) -> str:
    return action_id("default", customer, "contact/", "callback", "0", event_id)
