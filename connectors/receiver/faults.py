"""Faults on demand: what the receiver does wrong, and how often, before it behaves again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

#: The path that stands for every path.
EVERY_PATH = "*"


class Fault(BaseModel):
    """One order to misbehave. Without ``status`` the answer is right, only later by ``delay_s``."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(EVERY_PATH, description="Path that misbehaves, such as /v1/calls; * is every path.")
    status: int | None = Field(None, ge=300, le=599, description="Answer with this status instead.")
    times: int = Field(1, ge=0, le=1_000_000, description="Requests that it holds for; 0 ends it.")
    retry_after: float | None = Field(None, ge=0, description="Retry-After of the answer, in seconds.")
    delay_s: float = Field(0, ge=0, le=600, description="Wait before answering, in seconds.")
    accept: bool = Field(False, description="Take the delivery although the answer says otherwise.")


class Faults:
    """The faults in force, at most one a path; an exact path comes before ``*``."""

    def __init__(self) -> None:
        self._by_path: dict[str, Fault] = {}

    def order(self, fault: Fault) -> None:
        """Put a fault in force, in place of the path's earlier one; ``times`` 0 only ends that."""
        self._by_path.pop(fault.path, None)
        if fault.times:
            self._by_path[fault.path] = fault

    def next(self, path: str) -> Fault | None:
        """Return the fault that this request meets, used up by one, or None."""
        fault = self._by_path.get(path) or self._by_path.get(EVERY_PATH)
        if fault is None:
            return None
        self.order(fault.model_copy(update={"times": fault.times - 1}))
        return fault

    def in_force(self) -> list[Fault]:
        """Return what is left to go wrong."""
        return list(self._by_path.values())

    def clear(self) -> None:
        """Behave."""
        self._by_path.clear()
