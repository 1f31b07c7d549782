"""Simulates a sweep on a thousand workers: Dask's own scheduler, and tasks that sleep as long as recorded ones took.

Run from the project as `python -m bench.simulate_sweep`, after `make run PROFILE=full DATASET=all`. The workers are the
slots of twenty Dask workers, all in one process beside the scheduler and the client.
"""

import asyncio
import contextlib
import heapq
import re
import time
from collections import defaultdict

import numpy as np
from distributed import LocalCluster

from advlens.networks import dropout_network
from advlens.paths import store_folder
from advlens.store.store import list_artifacts
from advlens.suite import settings
from advlens.sweep import finished
from advlens.sweep_plan import Task

DATASETS, SEEDS, WORKERS, SPEED = ("fashion_mnist", "mnist"), 300, 1000, 20  # the slower data set first


def recorded(dataset: str) -> list[np.ndarray]:
    """(n, 3) seconds, bytes and artifacts of the network, of each attack set, and of each lens on all of these."""
    titles, kept = {re.sub(r"[^\w.-]+", "_", title): title for title in settings(dataset, 2)}, {}
    for row in list_artifacts(store_folder("full", dataset)):
        kind, _, name = row.get("name", "").partition(".")
        lens, _, of = name.removesuffix(".8-bit").partition(".")
        title = row["parameters"]["name"] if kind == "attack" else name
        known = {"task_network": name == dropout_network(dataset), "attack": title in titles.values()}
        if known.get(kind, kind == "measured" and of in {*titles, "clean"}):
            key = (kind, lens, of) if kind == "measured" else (kind, title)
            kept[key] = max(kept.get(key, (0,)), (row["seconds"], row["bytes"], 1))  # of several the longest
    network, attacks = (np.array([kept[key] for key in kept if key[0] == kind]) for kind in ("task_network", "attack"))
    lenses = (
        [kept[key] for key in kept if key[1:-1] == (lens,)]
        for lens in sorted({key[1] for key in kept if len(key) == 3})
    )
    return [network, attacks, np.array([np.sum(own, axis=0) for own in lenses if len(own) > 0.9 * len(attacks)])]


def greedy(tasks: list[Task], workers: int) -> float:
    """When the last task ends where each free worker at once takes the first that can start."""
    waits, after, running, now = [len(task.needs) for task in tasks], defaultdict(list), [], 0.0
    for i, task in enumerate(tasks):
        for each in task.needs:
            after[each].append(i)
    ready = [i for i, count in enumerate(waits) if not count]
    while ready or running:
        while ready and len(running) < workers:
            i = heapq.heappop(ready)
            heapq.heappush(running, (now + tasks[i].do, i))  # pyright: ignore[reportOperatorIssue]
        now, done = heapq.heappop(running)
        for i in after[tasks[done]]:
            waits[i] -= 1
            if not waits[i]:
                heapq.heappush(ready, i)
    return now


async def sleep(seconds: float, data: str, after: list) -> None:
    """A task's work; the rest of its time is Dask's."""
    await asyncio.sleep(seconds / SPEED)


def main() -> None:
    """Prints how a sweep of all lenses on all recorded attacks would go, a network a data set and seed."""
    rng, tasks, made, read = np.random.default_rng(0), [], np.zeros(3), 0.0
    for kinds in map(recorded, DATASETS):
        made += SEEDS * np.concatenate(kinds).sum(axis=0)
        read += SEEDS * len(kinds[2]) * (kinds[0][:, 1].sum() + kinds[1][:, 1].sum())  # by each cell: what it needs
        for _ in range(SEEDS):
            network, attacks, lenses = (kind[:, 0] * rng.lognormal(0, 0.2, len(kind)) for kind in kinds)
            first = Task(about={}, do=network[0])
            crafted = [Task(about={}, do=seconds, needs=(first,)) for seconds in attacks]
            tasks += [first, *crafted, *(Task(about={}, do=seconds, needs=(first, *crafted)) for seconds in lenses)]
    about = {"n_workers": 20, "threads_per_worker": WORKERS // 20, "memory_limit": 0, "dashboard_address": None}
    with contextlib.closing(LocalCluster(processes=False, **about)) as cluster:
        start = time.perf_counter()
        count = sum(1 for _ in finished(tasks, sleep, retries=0, scheduler=cluster.scheduler_address))
        took = SPEED * (time.perf_counter() - start)
    share, chain, best = sum(task.do for task in tasks) / WORKERS, greedy(tasks, count), greedy(tasks, WORKERS)
    print(f"{count:,} tasks on {WORKERS:,} workers, {SPEED} times as fast: {share:.0f} s of work a worker")
    print(f"longest chain {chain:.0f} s; without overhead {best:.0f} s, {share / best:.0%} of all workers' time")
    print(f"took {took:.0f} s, {share / took:.0%}; Dask's part, which no speed shortens: {(took - best) / SPEED:.0f} s")
    print(f"store: {made[2]:,.0f} artifacts, {made[1] / 1e9:.1f} GB written; {read / 1e9:.0f} GB read by the cells")


if __name__ == "__main__":
    main()
