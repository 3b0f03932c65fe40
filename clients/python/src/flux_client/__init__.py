"""Client for Flux, the world-state engine: read, write, watch, hold leases.

`Flux` blocks, `AsyncFlux` is for asyncio; both have the same calls.
"""

from ._async import AsyncFlux, AsyncLease, AsyncWatch
from ._errors import ClosedError, ConflictError, FluxError, LeaseLostError, UnreachableError
from ._sync import Flux, Lease, Watch
from ._types import (
    Change,
    Deleted,
    Entity,
    Event,
    Expect,
    NewEvent,
    Published,
    Reset,
    Snapshot,
)

__all__ = [
    "AsyncFlux",
    "AsyncLease",
    "AsyncWatch",
    "Change",
    "ClosedError",
    "ConflictError",
    "Deleted",
    "Entity",
    "Event",
    "Expect",
    "Flux",
    "FluxError",
    "Lease",
    "LeaseLostError",
    "NewEvent",
    "Published",
    "Reset",
    "Snapshot",
    "UnreachableError",
    "Watch",
]
