"""A board of tasks that several agents work through: each task is done once, whatever dies meanwhile.

A planner puts tasks on the board. Each worker watches it, claims an open task by a lease, works, and
ends it in one atomic batch with a condition on its claim: so a worker that was too slow, and whose
task another has taken, changes nothing. A worker that dies is not missed: its claim expires.

    pip install ./clients/python
    python examples/task_board.py          # against http://localhost:3000, or FLUX_URL
"""

from __future__ import annotations

import asyncio
import random
import uuid

from flux_client import AsyncFlux, AsyncLease, AsyncWatch, ConflictError, FluxError, NewEvent
from flux_client import Change, Deleted, Reset, Snapshot, UnreachableError

# A board of its own for each run.
BOARD = f"board-{uuid.uuid4().hex[:8]}"
TASKS = 20
WORKERS = 5
CLAIM_SECONDS = 2.0

Updates = AsyncWatch[Snapshot | Change | Deleted | Reset]


async def plan(flux: AsyncFlux) -> None:
    """Puts the tasks on the board. It may run again: each is created once."""
    await flux.publish_many(
        NewEvent(f"{BOARD}/task/{n}", {"status": "open", "number": n}, expect={"absent": True})
        for n in range(TASKS)
    )


def open_tasks(board: Updates) -> list[str]:
    """The tasks that are not done and that nobody works on, as far as this watch knows."""
    return [
        id
        for id, entity in board.entities.items()
        if entity.properties.get("status") == "open" and id.replace("/task/", "/claim/") not in board.entities
    ]


async def work(flux: AsyncFlux, name: str) -> None:
    """Does tasks until all are done."""
    async with flux.watch(f"{BOARD}/*") as board:
        async for _ in board:
            while tasks := open_tasks(board):
                # Workers that begin at different places collide less.
                await do(flux, name, random.choice(tasks))
                await catch_up(board)
            tasks_seen = [e for e in board.entities.values() if "status" in e.properties]
            if len(tasks_seen) == TASKS and all(e.properties["status"] == "done" for e in tasks_seen):
                return


async def catch_up(board: Updates) -> None:
    """Takes the updates that are there already."""
    try:
        while True:
            await asyncio.wait_for(board.__anext__(), 0.1)
    except asyncio.TimeoutError:
        pass


def is_outage(error: FluxError) -> bool:
    """Whether there was no answer, or the server can't do anything for now."""
    return error.status is None or error.status in (429, 502, 503, 504)


async def do(flux: AsyncFlux, name: str, task: str) -> None:
    claim = flux.lease(task.replace("/task/", "/claim/"), ttl=CLAIM_SECONDS, properties={"by": name})
    try:
        if not await claim.claim():
            return  # Another was faster.
    except FluxError as error:
        if not is_outage(error):
            raise
        return  # The task is still open, or its claim expires: the board will show it again.
    try:
        await asyncio.sleep(random.uniform(0.0, 0.1))  # the work itself
        await finish(flux, name, task, claim)
    finally:
        try:
            await claim.release()
        except FluxError as error:
            # The claim expires.
            print(f"{name} can't give {claim.entity_id} back: {error}")


async def finish(flux: AsyncFlux, name: str, task: str, claim: AsyncLease) -> None:
    """Marks a task as done, once, if it is still open and claimed by this worker."""
    done = NewEvent(
        task,
        {"status": "done", "by": name},
        expect={"properties": {"status": "open"}},
        increment={"times_done": 1},
    )
    # Made once: each guard is another event, and what is sent again must be the same.
    batch = [claim.guard(), done]
    while True:
        try:
            await flux.publish_many(batch, atomic=True)
            print(f"{name} did {task}")
            return
        except ConflictError as error:
            if error.code != "precondition_failed":
                raise
            print(f"{name} was too slow for {task}")
            return
        except FluxError as error:
            if not is_outage(error):
                raise
            print(f"{name} can't tell yet whether it did {task}: {error}")


async def vanish(flux: AsyncFlux) -> None:
    """A worker that claims a task and dies: its claim ends by itself."""
    claim = {"holder": "gone/1", "by": "gone"}
    await flux.publish(f"{BOARD}/claim/0", claim, ttl=CLAIM_SECONDS, expect={"absent": True})


async def main() -> None:
    print(f"{WORKERS} workers, {TASKS} tasks, a board named {BOARD}", flush=True)
    async with AsyncFlux(stream="tasks") as flux:
        await plan(flux)
        await vanish(flux)
        await asyncio.gather(*(work(flux, f"worker-{n}") for n in range(WORKERS)))
        tasks = [task async for task in flux.list(prefix=f"{BOARD}/task/")]
        assert len(tasks) == TASKS
        assert all(task.properties["times_done"] == 1 for task in tasks), "a task was done twice"
        print(f"all {TASKS} tasks are done, each once")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except UnreachableError as error:
        raise SystemExit(f"{error}; is a server running? `flux` starts one") from None
