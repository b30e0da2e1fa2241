"""Dispatch: durable queues in, connectors out, one effect per action id, a receipt for every outcome.

A record of ``journey.actions`` is queued durably before it is acknowledged. A lane per connector claims it under a
lease, asks the table in ``step`` what to do, does it, and settles it in the order that ``settlement`` explains.
"""

from orchestrator.runtime.dispatch.dispatcher import Dispatcher
from orchestrator.runtime.dispatch.intake import own_records
from orchestrator.runtime.dispatch.policy import DeliveryPolicy
from orchestrator.runtime.dispatch.queue import LEASE_ENDED, TAKEN, WITHDRAWN, DeliveryQueue
from orchestrator.runtime.dispatch.redrive import redrive

__all__ = [
    "LEASE_ENDED",
    "TAKEN",
    "WITHDRAWN",
    "DeliveryPolicy",
    "DeliveryQueue",
    "Dispatcher",
    "own_records",
    "redrive",
]
