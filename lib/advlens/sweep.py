"""Sweeps on Dask. Names travel, results don't: workers share the data folder, whose store computes a thing once."""

import contextlib
import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed, get_worker

from advlens.benchmark import LONG_TABLE
from advlens.datasets import CLASS_NAMES, fetch
from advlens.paths import data_dir, run_folder
from advlens.runs import is_done, locked, relative
from advlens.sweep_plan import Cell

LAST = ["state", "seconds", "worker", "error", "result"]  # columns of sweep.csv
NO_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # a worker's; Ctrl-C is the client's business


@contextlib.contextmanager
def connected(*, workers: int = 0, scheduler: str = "") -> Iterator[Client]:
    """A client of the scheduler at an address, such as tcp://host:8786; without one, of processes of this machine.

    Args:
        workers: how many processes share this machine's cores; 0 for one for two cores.
    Raises:
        ValueError: where no scheduler answers.
    """
    with contextlib.ExitStack() as stack:
        if not scheduler:
            workers = workers or max(CPU_COUNT // 2, 1)
            threads = max(CPU_COUNT // workers, 1)
            about = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": 1, "OMP_NUM_THREADS": threads}
            # Dask holds no data here: memory in use is no reason to pause a worker, which it would never leave again.
            never = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
            quiet = {"silence_logs": logging.CRITICAL, "dashboard_address": "127.0.0.1:0", "preload": [NO_SIGINT]}
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, env=about, config=never, **quiet)
            scheduler = stack.enter_context(contextlib.closing(cluster)).scheduler_address
        try:
            client = Client(scheduler, timeout=20, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"no scheduler answers at {scheduler}: start one with `dask scheduler`") from error
        yield stack.enter_context(client)


def finished(tasks: Sequence[Any], work: Callable, *, retries: int, **where: Any) -> Iterator[tuple[Any, Future]]:
    """Has `work(task.do, …)` done on the workers, each task's after those that it needs; yields them as they end.

    Raises:
        ValueError: where no scheduler answers, or a worker has more than one thread.
    """
    if not tasks:
        return
    with connected(**where) as client:
        _check_threads(client.nthreads())  # pyright: ignore[reportArgumentType]
        if not client.scheduler_info()["workers"]:  # of a queue, which may keep them waiting for long
            print("no worker has come yet: waiting for one", flush=True)
        futures: dict[Any, Future] = {}
        for task in tasks:
            after = [futures[each] for each in task.needs]
            futures[task] = client.submit(work, task.do, str(data_dir()), after, retries=retries, pure=False)
        task_of = {future.key: task for task, future in futures.items()}
        waiting = as_completed(list(futures.values()), loop=client.loop)
        futures.clear()  # what nobody holds isn't done again where the worker dies that did it
        for future in waiting:
            yield task_of[future.key], future


def _check_threads(threads: Mapping[str, int]) -> None:
    """Refuses workers, by address, that do several tasks in one process, whose environment and output is one task's."""
    if several := [address for address, number in threads.items() if number > 1]:
        raise ValueError(
            f"a worker does one task at a time, and {', '.join(several)} would more: start it with --nthreads 1"
        )


def work(do: Callable[[], None], data: str, after: Sequence[Any]) -> dict[str, Any]:
    """Does a task on a worker, in the data folder of that path; returns the seconds and the worker's name."""
    _check_threads({get_worker().address: get_worker().state.nthreads})  # it may have come after the others
    if not Path(data).is_dir():
        raise FileNotFoundError(f"{get_worker().address} has no folder {data}, which all workers must share")
    os.environ["ADVLENS_DATA"] = data
    os.environ.setdefault("ADVLENS_PROGRESS", "off")
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        do()
    return {"seconds": round(time.perf_counter() - started, 2), "worker": str(get_worker().name)}


def run(name: str, cells: Sequence[Cell], *, retries: int = 1, **where: Any) -> pd.DataFrame:
    """Does the cells that are not done yet, each on one worker; one that fails stops no other.

    Args:
        name, cells: see `sweep_plan.read`; where: see `connected`.
        retries: how often a cell that fails is tried again; one whose worker died is done again in any case.
    Returns:
        What it writes to sweep.csv, a row a cell; the long tables are joined in sweep.parquet.
    Raises:
        RuntimeError: where the same sweep is at work; ValueError: see `finished`.
    """
    folder = run_folder(name, "")
    with locked(folder):
        path, rows = folder / "sweep.csv", {}
        timed = pd.read_csv(path, index_col="result", dtype=str)[["seconds", "worker"]].T if path.exists() else {}
        for cell in cells:
            result, done = str(cell.target.relative_to(folder)), is_done(cell.target, cell.key)
            about = {"state": "done before", **timed.get(result, {})} if done else {"state": "not done"}
            rows[cell] = {**cell.about, **dict.fromkeys(LAST), **about, "result": result}
        waiting = [cell for cell in cells if rows[cell]["state"] == "not done"]
        print(f"{name}: {len(cells)} cells, {len(cells) - len(waiting)} of them done before", flush=True)
        for dataset in {cell.about["dataset"] for cell in waiting} & set(CLASS_NAMES):
            fetch(dataset)
        tasks = list(dict.fromkeys(each for cell in waiting for each in (*cell.needs, cell)))
        try:
            for number, (task, future) in enumerate(finished(tasks, work, retries=retries, **where), 1):
                rows[task] = row = rows.get(task, {}) | _outcome(future)
                told = row["error"] or f"{row['seconds']} s, worker {row['worker']}"
                print(f"[{number}/{len(tasks)}] {task}: {row['state']}, {told}", flush=True)
        finally:
            table = _write(path, cells, [rows[cell] for cell in cells])
    counts = ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items())
    failed = [f"failed: {cell}: {rows[cell]['error']}" for cell in cells if rows[cell]["state"] == "failed"]
    print("\n".join([f"{counts}; see {relative(path)}", *failed]))
    return table


def _outcome(future: Future) -> dict[str, Any]:
    if future.status == "finished":
        return {"state": "done", "error": None, **future.result()}
    error = future.exception() if future.status == "error" else ConnectionError("the scheduler has gone")
    told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, KilledWorker):
        told = f"{error.allowed_failures + 1} workers died of it, most likely of memory: choose smaller sizes"
    return {"state": "failed", "error": told}


def _write(path: Path, cells: Sequence[Cell], rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Writes a row a cell, and the long tables of those that are done in one Parquet beside it."""
    table, partial = pd.DataFrame(rows), path.with_name(".partial-sweep.csv")
    table = table[[*table.columns.difference(LAST, sort=False), *LAST]]
    table.to_csv(partial, index=False)
    partial.replace(path)
    done = [cell for cell, row in zip(cells, rows, strict=True) if row["state"].startswith("done") and cell.needs]
    if done:
        swept = [name for name in done[0].about if name != "detector"]
        tables = [pd.read_parquet(cell.target).assign(**{name: cell.about[name] for name in swept}) for cell in done]
        # The trivial baselines stand in the table of each detector of a setting.
        joined = pd.concat(tables).drop_duplicates([*(LONG_TABLE.unique or ()), *swept])
        joined.to_parquet(path.with_suffix(".parquet"), index=False)
    return table
