"""A short selection of the faults of `make faults`: one kill of each kind, judged by the oracle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from load_tests.faults.catalogue import FAULTS, faults_named
from load_tests.faults.run import Faults

pytestmark = pytest.mark.integration

SELECTION = ["worker-kills", "dispatcher-kills", "broker-restarts", "redis"]
RECOVERY_S_MAX = 15


def test_kills_of_a_worker_a_dispatcher_the_broker_and_redis_lose_nothing_and_invent_nothing(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    faults = Faults(tmp_path, seed=7, short=True, workers=2, rate=40, say=say)
    rows = list(faults.rows(faults_named(SELECTION)))
    assert {row.fault.name for row in rows} == set(SELECTION)
    assert [row.trouble() for row in rows if not row.holds] == [], f"the logs are in {tmp_path}"
    for row in rows:
        assert row.verdict is not None
        assert row.verdict.due > 30, row.fault.name
        assert row.account.recoveries_s, row.fault.name
    killed = next(row for row in rows if row.fault.name == "worker-kills")
    say(f"a killed worker's partitions went on after {max(killed.account.recoveries_s):.1f} s")
    assert max(killed.account.recoveries_s) < RECOVERY_S_MAX


def test_every_row_of_the_table_is_carried_out_or_says_where_it_is() -> None:
    assert [fault.number for fault in FAULTS] == list(range(1, 21))
    assert [fault.number for fault in FAULTS if fault.act is None and not fault.elsewhere] == []


def test_an_unknown_fault_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(ValueError, match="no fault is named fire; there are: worker-kills, durable-steps"):
        faults_named(["fire"])
