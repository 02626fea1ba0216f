"""Jobs that run in the memory of a worker, with FastAPI.

    twist txsticky --workers 4 --sticky 'path:^/jobs/([^/]+)' server:app
    curl -X POST http://localhost:8080/jobs

The answer tells the job's id, and `curl http://localhost:8080/jobs/ID` how far it is. The id is in
the path, and carries the tag of the worker that runs the job: that worker is asked for it.
"""

from __future__ import annotations

import asyncio
import os
import uuid

from fastapi import FastAPI, HTTPException

import txsticky

STEPS = 20
WORKER = os.environ.get("TXSTICKY_WORKER", "alone")

app = FastAPI()
jobs: dict[str, int] = {}
running: set[asyncio.Task[None]] = set()


async def work(job: str) -> None:
    for step in range(STEPS):
        await asyncio.sleep(0.1)
        jobs[job] = step + 1


@app.post("/jobs", status_code=201)
async def begin() -> dict[str, object]:
    here = txsticky.current()
    job = uuid.uuid4().hex
    if here is not None:  # else the application runs alone
        job = here.mint(job)
    jobs[job] = 0
    task = asyncio.create_task(work(job))
    running.add(task)
    task.add_done_callback(running.discard)
    return {"job": job, "worker": WORKER}


@app.get("/jobs/{job}")
async def tell(job: str) -> dict[str, object]:
    if job not in jobs:
        raise HTTPException(404, f"worker {WORKER} has no such job")
    return {"job": job, "worker": WORKER, "done": jobs[job], "of": STEPS}


@app.get("/")
async def page() -> dict[str, object]:
    return {"jobs": len(jobs), "worker": WORKER}
