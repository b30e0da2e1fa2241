"""The two checks that stand before every write of a state store, in the words that every store uses."""

from __future__ import annotations

from orchestrator.errors import Fenced


def check_epoch(partition: int, epoch: int, latest: int) -> None:
    """Raise ``Fenced`` unless ``epoch`` is the latest that the store has given for the partition."""
    if epoch < latest:
        raise Fenced(f"Partition {partition} was taken over: epoch {latest} owns it, this write is of epoch {epoch}.")
    if epoch > latest:
        raise Fenced(
            f"Partition {partition} was never given under epoch {epoch}; the latest is {latest}. "
            "The store was replaced by an older one; acquire the partition again."
        )


def follows(partition: int, sequence: int, latest: int) -> bool:
    """Return whether commit ``sequence`` is the next one; False means that it has been applied already.

    Raises ``Fenced`` when commits between the two are missing from the store (it was restored, or lost its last
    second): what the caller holds in memory is ahead of the record, and acquiring again mends that.
    """
    if sequence > latest + 1:
        raise Fenced(
            f"Commit {sequence} of partition {partition} does not follow the last one stored, {latest}. "
            "The store has lost commits; acquire the partition again and go on from its offset of record."
        )
    return sequence == latest + 1
