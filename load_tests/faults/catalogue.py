"""The table of faults, in its own order: what real processes can show, and where the rest is shown."""

from __future__ import annotations

from load_tests.faults import delivery_faults, input_faults, server_faults, storage_faults, worker_faults
from load_tests.faults.case import Fault
from load_tests.faults.role_logs import BROKER_AWAY, FENCED, GROUP_MOVED, PRODUCER_REFUSED, WOKEN

FAULTS: tuple[Fault, ...] = (
    Fault(
        number=1,
        name="worker-kills",
        title="kill -9 of workers at random points",
        invariant="states are the oracle's; action ids received are those decided, none missing, none extra",
        act=worker_faults.kill_workers,
        expects=(GROUP_MOVED,),
    ),
    Fault(
        number=2,
        name="durable-steps",
        title="crash after each durable step, all interleavings",
        invariant="the same",
        elsewhere="harness A: `make simulate`",
    ),
    Fault(
        number=3,
        name="recovery-kills",
        title="kill -9 during recovery, repeatedly",
        invariant="recovery restarts clean",
        act=worker_faults.kill_recovering_workers,
        expects=(GROUP_MOVED,),
    ),
    Fault(
        number=4,
        name="frozen-workers",
        title="SIGSTOP past the session timeout, then SIGCONT",
        invariant="fenced; no regress, no phantom; it exits or rejoins",
        act=worker_faults.freeze_workers,
        expects=(FENCED, GROUP_MOVED, WOKEN),
    ),
    Fault(
        number=5,
        name="rolling-restart",
        title="rolling SIGTERM restart",
        invariant="no loss and no repeats",
        act=worker_faults.restart_workers_in_turn,
        expects=(GROUP_MOVED,),
    ),
    Fault(
        number=6,
        name="broker-restarts",
        title="broker clean and kill -9 restart under load, also within a commit; away for longer",
        invariant="ingest answers 503, nothing acknowledged is lost, resumes unattended",
        act=server_faults.restart_kafka,
        expects=(BROKER_AWAY,),
    ),
    Fault(
        number=7,
        name="broker-frozen",
        title="broker paused for 30 s and more",
        invariant="back-pressure, bounded memory",
        act=server_faults.freeze_kafka,
        expects=(BROKER_AWAY,),
    ),
    Fault(
        number=8,
        name="rebalance-storm",
        title="a worker added or removed every 2 to 5 s",
        invariant="order per customer, progress, no double effects",
        act=worker_faults.storm,
        expects=(GROUP_MOVED,),
    ),
    Fault(
        number=9,
        name="redis",
        title="Redis restarted, slow, silent, away",
        invariant="waits and retries; nothing lost or repeated to connectors beyond an id's repeats",
        act=server_faults.disturb_redis,
    ),
    Fault(
        number=10,
        name="connectors",
        title="connector answers 500, 429, resets, times out after accepting, hangs for 10 s",
        invariant="one effect per id; other connectors unaffected; dead letter after the budget",
        act=delivery_faults.disturb_connector,
    ),
    Fault(
        number=11,
        name="dispatcher-kills",
        title="dispatchers killed between the connector's 2xx and the ledger",
        invariant="by policy, never silent",
        act=delivery_faults.kill_dispatchers,
        expects=(BROKER_AWAY,),
    ),
    Fault(
        number=12,
        name="poison",
        title="poison events",
        invariant="dead-lettered once each; neighbours unaffected",
        act=input_faults.poison,
        expects=(PRODUCER_REFUSED,),
    ),
    Fault(
        number=13,
        name="disorder",
        title="duplicate, out-of-order, late, future-dated events",
        invariant="the oracle's stated semantics",
        act=input_faults.disorder,
        expects=(GROUP_MOVED,),
        disorder=True,
    ),
    Fault(
        number=14,
        name="clock-jumps",
        title="clock jumps of an hour, a day, backwards, and days of changed clocks",
        invariant="no timer twice, none lost, none early",
        elsewhere="harness A alone: `make simulate`. Proven there: the wall clock of one worker or dispatcher after "
        "another is stepped by 0.7 s, 30 s, an hour or a day, forward or back, and comes right after 1 to 6 virtual "
        "seconds. With a worker everything is still judged, with a dispatcher all but its leases and rates. "
        "Not proven: steps that last longer, the broker's clock, days of changed clocks, and clocks of real processes, "
        "for the machine's is not ours to change",
    ),
    Fault(
        number=15,
        name="timers-while-down",
        title="timers due during downtime",
        invariant="once each, in due order, after the backlog is read",
        act=input_faults.timers_while_down,
        expects=(GROUP_MOVED,),
    ),
    Fault(
        number=16,
        name="rulebooks",
        title="rulebook published mid-batch with a crash; an invalid one",
        invariant="old or new version decides, never a mix; the invalid one refused",
        act=input_faults.publish_under_way,
        expects=(GROUP_MOVED,),
    ),
    Fault(
        number=17,
        name="disk-full",
        title="disk full under broker and store",
        invariant="stops with a clear error; recovers when there is room",
        act=storage_faults.fill_disks,
        expects=(BROKER_AWAY,),
        destructive=True,
        folder=storage_faults.small_disks,
    ),
    Fault(
        number=18,
        name="lost-log",
        title="offsets out of retention, topic recreated, partitions added",
        invariant="refuses to start, precise message",
        act=storage_faults.lose_the_log,
        destructive=True,
    ),
    Fault(
        number=19,
        name="soak",
        title="soak at half load with random 1, 6, 9, 10",
        invariant="memory and descriptors flat, ids reconcile",
        elsewhere="`make soak`, docs/soak.md",
    ),
    Fault(
        number=20,
        name="overload",
        title="three times what is decided and delivered, through the gateway; a flood past it; then stop",
        invariant="lag drains, nothing lost, no out-of-memory",
        act=input_faults.overload,
        rest_s=300,
    ),
)


def faults_named(names: list[str]) -> list[Fault]:
    """Return the faults of these names or numbers in the table's order, all of them when none is given."""
    known = {key: fault for fault in FAULTS for key in (fault.name, str(fault.number))}
    unknown = [one for one in names if one not in known]
    if unknown:
        raise ValueError(f"no fault is named {', '.join(unknown)}; there are: {', '.join(one.name for one in FAULTS)}")
    wanted = {known[one].number for one in names}
    return [one for one in FAULTS if not wanted or one.number in wanted]
