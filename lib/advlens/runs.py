"""Runs: papermill executes a plan's notebooks in order, and skips what is done.

A notebook is done where it was executed to the end with the same code and parameters, and the makers whose artifacts
it read have the same versions. What a notebook computes is in the artifact store, so one that was interrupted goes on
where it stopped.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import nbformat
import papermill
import traitlets
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError

from advlens.datasets import CLASS_NAMES, data_sets, load
from advlens.lanes import LANES, side_by_side
from advlens.paths import checked_name, project_root, run_folder
from advlens.profiles import notebooks, own_parameters, profile_parameters
from advlens.store.makers import read_lock
from advlens.store.store import READS

PLACE = re.compile("stopped in (.*);")
LONGEST = ("12", "10", "13", "04", "07", "15", "14", "06", "09")  # numbers of the notebooks, the longest first
LONGEST_SOCKET = 100  # characters of a socket's path that all systems take, some of them 107


class Stopped(BaseException):
    """The user or the system asked the run to stop: `code` is the shell's for it."""

    def __init__(self, where: str, *, code: int) -> None:
        super().__init__(f"stopped in {where}; run the same command to go on")
        self.code = code


@dataclasses.dataclass(frozen=True)
class Plan:
    """One data set's run: every notebook in order, with the parameters that differ from its defaults."""

    run: str
    dataset: str  # its name, that of its folder
    parameters: dict[str, Any]
    only: str = ""  # the name of one notebook, where the others aren't meant

    @property
    def folder(self) -> Path:
        """Where all that the run makes lies."""
        return run_folder(self.run, self.dataset)

    def steps(self) -> Iterator[tuple[Path, Path, dict[str, Any], str]]:
        """Each notebook in order: itself, where its execution goes, its parameters, the key of these and its code."""
        given = {"dataset": self.dataset, **self.parameters, "run": self.run}
        chosen = [notebook for notebook in notebooks() if self.only in ("", notebook.stem)]
        if self.only and not chosen:
            raise ValueError(f"this project has no notebook {self.only!r}: bring it up to date")
        for notebook in chosen:
            parameters = own_parameters(notebook, given)
            content = json.dumps([code_of(notebook), parameters], sort_keys=True, default=str)
            key = hashlib.sha256(content.encode()).hexdigest()
            yield notebook, self.folder / "notebooks" / notebook.name, parameters, key


class LocalKernelManager(AsyncKernelManager):
    """Talks to a kernel over sockets of this machine's file system: nothing listens on the network.

    The sockets' names are a run's own; jupyter_client's are the same for all runs that start in one folder at once.
    """

    transport = "ipc"

    @traitlets.default("ip")
    def _sockets(self) -> str:
        name = f"advlens-{uuid.uuid4().hex}"
        path = os.path.join(tempfile.gettempdir(), name)
        return path if len(path) < LONGEST_SOCKET else os.path.join("/tmp", name)


def plans(run: str, dataset: str, profile: str, seed: int) -> Iterator[Plan]:
    """The plans of a command: one, or one per data set for `all`.

    Raises:
        ValueError: for an unknown data set or profile, a run that is no plain folder name, a seed out of range, or a
            user's file that is no data set.
        FileNotFoundError: for a user's file that is not there.
    """
    if dataset not in (*CLASS_NAMES, "all") and not dataset.endswith(".npz"):
        raise ValueError(f"DATASET must be {', '.join(CLASS_NAMES)}, all, or the path of an .npz, got {dataset!r}")
    checked_name(run, name="RUN")
    if not 0 <= seed < 2**32:
        raise ValueError(f"SEED must be a whole number from 0 to 2^32 - 1, got {seed}")
    parameters = {**profile_parameters(profile), "seed": seed}
    if dataset.endswith(".npz"):
        path = Path(dataset).expanduser().resolve()
        checked_name(path.stem, name="the name of a data set's file")
        load(path)  # whatever is wrong with it is said before work starts
        yield Plan(run, path.stem, {**parameters, "dataset": str(path)})
        return
    for name in data_sets(dataset):
        yield Plan(run, name, parameters)


def execute(plan: Plan, *, lanes: int = 1) -> None:
    """Executes a plan's notebooks in order, skipping those that are done.

    Args:
        lanes: how many notebooks are executed at a time; with more than one, each in a process of its own.
    Raises:
        RuntimeError: where a cell fails or a kernel dies; the notebook as far as it came lies beside the finished ones,
            as `NN_name.failed.ipynb`.
        Stopped: on Ctrl-C or SIGTERM.
    """
    with locked(plan.folder) as lock, sigterm_as_exit():
        left: dict[str, tuple[Path, Path, dict[str, Any], str]] = {}
        for notebook, target, parameters, key in plan.steps():
            if is_done(target, key):
                print(f"{plan.dataset} {notebook.stem}: done before")
            else:
                left[notebook.stem] = notebook, target, parameters, key
        if lanes > 1 and len(left) > 1:
            return _side_by_side(plan.dataset, left, lanes, lock)
        for name, step in left.items():
            print(f"{plan.dataset} {name}: running", flush=True)
            do_step(*step)


def do_step(notebook: Path, target: Path, parameters: dict[str, Any], key: str) -> None:
    """Executes one notebook and marks it as done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    reads = target.with_suffix(".reads")  # the store of the notebook's kernel writes there which makers it is asked for
    reads.write_text("")
    os.environ[READS] = str(reads)
    try:
        _execute_one(notebook, target, parameters)
        pairs = (line.rsplit(" ", 1) for line in reads.read_text().splitlines())
        mark_done(target, key, {name: int(version) for name, version in pairs})
    finally:
        os.environ.pop(READS)
        reads.unlink()


def _side_by_side(dataset: str, steps: Mapping[str, Any], lanes: int, lock: IO[str]) -> None:
    """The longest notebooks first. The lock is held until the last process has ended, whatever becomes of this one."""
    problems: list[str] = []

    def failed(name: str, code: int, told: str) -> None:
        if not PLACE.search(told):
            said = re.findall(r"^advlens: (.*)", told, re.MULTILINE | re.DOTALL)
            problems.append(said[-1].strip() if said else f"{name} ended with exit code {code}: {told[-2000:].strip()}")
            print(f"{dataset} {name}: failed, the other lane comes to its end", flush=True)

    # Short ones last, so that both lanes end at once; and none beside one whose artifacts it would wait for.
    order = sorted(steps, key=lambda name: (LONGEST.index(name[:2]) if name[:2] in LONGEST else len(LONGEST), name))
    tasks = {name: json.dumps(steps[name], default=str) for name in order}
    about = {"lanes": lanes, "keep": [lock.fileno()], "failed": failed}
    say = lambda name: print(f"{dataset} {name}: running", flush=True)  # noqa: E731
    ended, interrupted = side_by_side(tasks, "step", **about, started=say)
    if interrupted:
        where = [place for _, told in ended.values() for place in PLACE.findall(told)]
        raise Stopped(" and ".join(where) or "between two notebooks", code=interrupted)
    if problems:
        raise RuntimeError("; ".join(problems))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[IO[str]]:
    """Holds a run's folder for this process, and those that are given the lock; the system lets go of it with the last.

    Raises:
        RuntimeError: where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(
                f"another run is at work in {relative(folder)}: wait for it, or choose another name"
            ) from error
        yield file


def _execute_one(notebook: Path, target: Path, parameters: dict[str, Any]) -> None:
    failed, partial = target.with_suffix(".failed.ipynb"), target.with_name(f".partial-{target.name}")
    before = _peak_memory()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks that an interruption leaves behind
    try:
        papermill.execute_notebook(
            str(notebook),
            str(partial),
            parameters,
            kernel_name="python3",
            kernel_manager_class="advlens.runs.LocalKernelManager",
            extra_arguments=["--IPKernelApp.log_level=50"],  # the shutdown interrupts an idle kernel, which says so
            progress_bar=False,
            cwd=str(target.parent),
        )
    except papermill.PapermillExecutionError as error:
        partial.replace(failed)
        raise RuntimeError(
            f"{notebook.stem} failed: {error.ename}: {error.evalue}; see {relative(failed)} for the cell"
        ) from error
    except DeadKernelError as error:
        where, cause = _cell_at_work(partial), _cause_of_death(before)
        partial.replace(failed)
        raise RuntimeError(
            f"{notebook.stem}, {where}: {cause}; its outputs so far are in {relative(failed)}"
        ) from error
    except (KeyboardInterrupt, SystemExit) as stop:
        where = f"{notebook.stem}, {_cell_at_work(partial)}"
        partial.unlink(missing_ok=True)
        code = stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130
        raise Stopped(where, code=code) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    failed.unlink(missing_ok=True)
    partial.replace(target)


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Ends what is inside by SystemExit(143) on SIGTERM, so that it cleans up, in the main thread."""
    if threading.current_thread() is not threading.main_thread():  # of a sweep's worker, which has no say in signals
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _cell_at_work(partial: Path) -> str:
    """The last cell that was started, as "cell 5", numbered as in the author's notebook."""
    cells = code_cells(nbformat.read(partial, as_version=4)) if partial.exists() else []
    # papermill calls all cells completed in the end
    started = [number for number, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    return f"cell {started[-1]}" if started else "its start"


def _peak_memory() -> float:
    """GiB, the most that any child process of ours had until now, of those that have ended."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**30


def _cause_of_death(before: float) -> str:
    """Why a kernel may have died, by the memory that it had where that is known: above the peak of those before it."""
    peak, have = _peak_memory(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    told = f"it had {peak:.1f} of {have:.1f} GiB of memory" if peak > before else f"it had at most {peak:.1f} GiB"
    lanes = int(os.environ.get(LANES, 1))
    if before < peak and peak > 0.7 * have / lanes:
        less = " or run with --lanes 1" if lanes > 1 else ""
        return f"its kernel died, likely of memory ({told}): set smaller numbers of images{less}"
    return f"its kernel died ({told}): it was killed, or a library crashed"


def is_done(target: Path, key: str) -> bool:
    """Whether it was made with that key, and every maker that it read from has the version that it had then."""
    try:
        done = json.loads(target.with_suffix(".done").read_text())
        versions = {name: known["version"] for name, known in read_lock().items()}
        return target.exists() and done["key"] == key and done["reads"].items() <= versions.items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def mark_done(target: Path, key: str, reads: Mapping[str, int]) -> None:
    """Marks a file as done with a key and the versions of the makers whose artifacts it rests on: see `is_done`."""
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps({"key": key, "reads": dict(reads)}, indent=1))
    partial.replace(target.with_suffix(".done"))


def code_cells(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """A notebook's code cells, without the one that papermill injects."""
    code = (cell for cell in book.cells if cell.cell_type == "code")
    return [cell for cell in code if "injected-parameters" not in cell.metadata.get("tags", [])]


def code_of(notebook: Path) -> list[str]:
    """The text of a notebook's `code_cells`."""
    return [cell.source for cell in code_cells(nbformat.read(notebook, as_version=4))]


def relative(path: Path) -> str:
    """A path as a reader of the project knows it, without this machine's folders."""
    return str(path.relative_to(project_root())) if path.is_relative_to(project_root()) else str(path)


def report(plan: Plan) -> None:
    """Prints where a run's results are, and its headline tables."""
    print(f"\n{plan.dataset}: notebooks, figures and tables are in {relative(plan.folder)}")
    for headline in sorted((plan.folder / "figures").glob("headline*.md")):
        print(f"\n{relative(headline)}\n\n{headline.read_text()}")
