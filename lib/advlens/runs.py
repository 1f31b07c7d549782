"""Papermill plans: which notebooks a run executes, with which parameters, and what may be skipped.

A notebook is skipped where it was executed to the end with the same code and parameters, and the makers whose artifacts
it read have the same versions. What a notebook computes is in the artifact store, so one that was interrupted goes on
where it stopped.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import traitlets
import yaml
from jupyter_client import AsyncKernelManager

from advlens.datasets import CLASS_NAMES, load
from advlens.paths import data_dir, project_root
from advlens.store.makers import read_lock
from advlens.store.store import NAME, READS

PROFILES = ("reference", "quick", "smoke")
BASELINE_DATASET = "mnist"


@dataclasses.dataclass(frozen=True)
class Plan:
    """One data set's run: every notebook in order, with the parameters that differ from its defaults."""

    run: str
    dataset: str  # its name, that of its folder
    parameters: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where all that the run makes lies."""
        return data_dir() / "runs" / self.run / self.dataset


class LocalKernelManager(AsyncKernelManager):
    """Talks to a kernel over sockets of this machine's file system: nothing listens on the network.

    The sockets' names are a run's own; jupyter_client's are the same for all runs that start in one folder at once.
    """

    transport = "ipc"

    @traitlets.default("ip")
    def _sockets(self) -> str:
        return os.path.join(tempfile.gettempdir(), f"advlens-{uuid.uuid4().hex}")


def notebooks() -> list[Path]:
    """The project's notebooks in the order in which they run."""
    return sorted((project_root() / "notebooks").glob("[0-9]*.ipynb"))


def profile_parameters(profile: str) -> dict[str, Any]:
    """The parameters by which a profile differs from the notebooks' defaults, the reference study.

    Args:
        profile: one of `PROFILES`, or the path of a .yaml file of one's own.
    Raises:
        ValueError: for an unknown profile, a file that maps no names to values, or a parameter that no notebook has.
        FileNotFoundError: for a file that is not there.
    """
    if profile.endswith(".yaml"):
        path = Path(profile).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"profile {profile!r} is no file: check its path, seen from {Path.cwd()}")
    elif profile in PROFILES:
        path = project_root() / "notebooks" / "parameters" / f"{profile}.yaml"
    else:
        raise ValueError(
            f"no profile is called {profile!r}: choose one of {', '.join(PROFILES)}, or the path of a .yaml"
        )
    is_reference = profile == "reference" and not path.exists()  # which differs in nothing
    parameters = {} if is_reference else yaml.safe_load(path.read_text()) or {}
    if not isinstance(parameters, dict):
        raise ValueError(f"{path.name} must map parameters' names to values, as `task_epochs: 3`, got {parameters!r}")
    known = {name for notebook in notebooks() for name in declared_parameters(notebook)}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise ValueError(f"{path.name} sets {', '.join(unknown)}, which no notebook declares: correct the name")
    return parameters


def declared_parameters(notebook: Path) -> list[str]:
    """The names in a notebook's `parameters` cell."""
    return list(papermill.inspect_notebook(str(notebook)))


def execute(plan: Plan) -> None:
    """Executes a plan's notebooks in order, skipping those that are done.

    Raises:
        RuntimeError: where a cell fails; the notebook as far as it came lies beside the finished ones, as
            `NN_name.failed.ipynb`.
    """
    with locked(plan.folder):
        for notebook, target, parameters, key in _steps(plan):
            if _is_done(target, key):
                print(f"{plan.dataset} {notebook.stem}: done before")
                continue
            print(f"{plan.dataset} {notebook.stem}: running", flush=True)
            with _recorded_reads(target) as reads:
                _execute_one(notebook, target, parameters)
                _mark_done(target, key, reads)


@contextlib.contextmanager
def _recorded_reads(target: Path) -> Iterator[Path]:
    """The file in which the store of a notebook's kernel writes the makers whose artifacts it is asked for."""
    target.parent.mkdir(parents=True, exist_ok=True)
    reads = target.with_suffix(".reads")
    reads.write_text("")
    os.environ[READS] = str(reads)
    try:
        yield reads
    finally:
        os.environ.pop(READS)
        reads.unlink()


def _steps(plan: Plan) -> Iterator[tuple[Path, Path, dict[str, Any], str]]:
    """Each notebook in order: itself, where its execution goes, its parameters, and the key of these and its code."""
    for notebook in notebooks():
        parameters = _own_parameters(plan, notebook)
        yield notebook, plan.folder / "notebooks" / notebook.name, parameters, _key(notebook, parameters)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a run's folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:
        RuntimeError: where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(
                f"another run is at work in {_relative(folder)}: wait for it, or choose another name with RUN=name"
            ) from error
        yield


def _own_parameters(plan: Plan, notebook: Path) -> dict[str, Any]:
    given = {"dataset": plan.dataset, **plan.parameters, "run": plan.run}
    return {name: given[name] for name in declared_parameters(notebook) if name in given}


def _execute_one(notebook: Path, target: Path, parameters: dict[str, Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    failed = target.with_suffix(".failed.ipynb")
    partial = target.with_name(f".partial-{target.name}")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(partial),
            parameters,
            kernel_name="python3",
            kernel_manager_class="advlens.runs.LocalKernelManager",
            progress_bar=False,
            cwd=str(target.parent),
        )
    except papermill.PapermillExecutionError as error:
        partial.replace(failed)
        raise RuntimeError(
            f"{notebook.stem} failed: {error.ename}: {error.evalue}; see {_relative(failed)} for the cell"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    failed.unlink(missing_ok=True)
    partial.replace(target)


def _key(notebook: Path, parameters: dict[str, Any]) -> str:
    """Changes with the notebook's code and its parameters."""
    content = json.dumps([code_of(notebook), parameters], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def code_of(notebook: Path) -> list[str]:
    """A notebook's code cells, without the one that papermill injects."""
    return [cell.source for cell in _code_cells(nbformat.read(notebook, as_version=4)) if not _is_injected(cell)]


def _is_injected(cell: nbformat.NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


def _done_file(target: Path) -> Path:
    return target.with_suffix(".done")


def _is_done(target: Path, key: str) -> bool:
    """Whether it was executed with that key, and every maker that it read from has the version that it had then."""
    try:
        done = json.loads(_done_file(target).read_text())
        versions = {name: known["version"] for name, known in read_lock().items()}
        return target.exists() and done["key"] == key and done["reads"].items() <= versions.items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _mark_done(target: Path, key: str, reads: Path) -> None:
    pairs = (line.rsplit(" ", 1) for line in reads.read_text().splitlines())
    partial = _done_file(target).with_suffix(".partial")
    partial.write_text(json.dumps({"key": key, "reads": {name: int(version) for name, version in pairs}}, indent=1))
    partial.replace(_done_file(target))


# ---------------------------------------------------------------- what is committed


def publish(run: str, *, seed: int = 0) -> None:
    """Copies a finished run's outputs into notebooks/, and its figures and tables into figures/.

    The notebooks keep their prose and parameters and get the outputs of the MNIST run, without paths and times.

    Raises:
        RuntimeError: where the run is not finished, or code or parameters are no longer those that it ran with.
    """
    parameters = {**profile_parameters("reference"), "seed": seed}
    plans = [Plan(run, name, parameters) for name in CLASS_NAMES]
    plans = [plan for plan in plans if plan.dataset == BASELINE_DATASET or plan.folder.exists()]
    for plan in plans:  # all are checked before anything is replaced
        for notebook, target, _, key in _steps(plan):
            if not _is_done(target, key):
                raise RuntimeError(
                    f"{notebook.name} of {plan.dataset} is not done with today's code and parameters: make the run "
                    f"again, with make run RUN={run} DATASET={plan.dataset} SEED={seed}"
                )
        if not (plan.folder / "figures").is_dir():
            raise RuntimeError(f"{_relative(plan.folder)} has no figures: remove it and make the run again")
    for plan in plans:
        if plan.dataset == BASELINE_DATASET:
            for notebook, target, _, _ in _steps(plan):
                nbformat.write(_with_outputs_of(target, notebook), notebook)
        pictures = project_root() / "figures" / plan.dataset
        partial = pictures.with_name(f".partial-{plan.dataset}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(plan.folder / "figures", partial)
        shutil.rmtree(pictures, ignore_errors=True)
        partial.rename(pictures)


def make_baselines() -> None:
    """Executes every notebook at smoke size and stores the copies under tests/notebooks."""
    os.environ["ADVLENS_PROGRESS"] = "off"
    plan = Plan("baselines", BASELINE_DATASET, profile_parameters("smoke"))
    shutil.rmtree(plan.folder, ignore_errors=True)
    execute(plan)
    for notebook in notebooks():
        book = _committable(plan.folder / "notebooks" / notebook.name)
        for cell in _code_cells(book):
            for output in cell.outputs:  # a figure is compared by its description
                for picture in ("image/png", "image/gif"):
                    output.get("data", {}).pop(picture, None)
        nbformat.write(book, project_root() / "tests" / "notebooks" / notebook.name)


def _with_outputs_of(executed: Path, notebook: Path) -> nbformat.NotebookNode:
    """A notebook as it is, prose included, with the outputs that its code had in a run."""
    book = nbformat.read(notebook, as_version=4)
    ran = [cell for cell in _committable(executed).cells if cell.cell_type == "code" and not _is_injected(cell)]
    for number, (cell, done) in enumerate(zip(_code_cells(book), ran, strict=True), 1):
        cell.outputs, cell.execution_count = done.outputs, number
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = number
    return book


def _code_cells(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def _committable(executed: Path) -> nbformat.NotebookNode:
    """An executed notebook without papermill's paths and times."""
    book = nbformat.read(executed, as_version=4)
    book.metadata.pop("papermill", None)
    for cell in book.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
    return book


def _relative(path: Path) -> str:
    """A path as a reader of the project knows it, without this machine's folders."""
    return str(path.relative_to(project_root())) if path.is_relative_to(project_root()) else str(path)


# ---------------------------------------------------------------- command line


def plans(run: str, dataset: str, profile: str, seed: int) -> Iterator[Plan]:
    """The plans of a command: one, or one a data set for `all`.

    Raises:
        ValueError: for an unknown data set or profile, a run name that is no plain folder name, a seed out of range,
            or a user's file that is no data set.
        FileNotFoundError: for a user's file that is not there.
    """
    if dataset not in (*CLASS_NAMES, "all") and not dataset.endswith(".npz"):
        raise ValueError(f"DATASET must be {', '.join(CLASS_NAMES)}, all, or the path of an .npz, got {dataset!r}")
    if not NAME.fullmatch(run):
        raise ValueError(f"RUN must be a plain name of letters, digits, '.', '_' and '-', got {run!r}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"SEED must be a whole number from 0 to 2^32 - 1, got {seed}")
    parameters = {**profile_parameters(profile), "seed": seed}
    if dataset.endswith(".npz"):
        path = Path(dataset).expanduser().resolve()
        load(path)  # whatever is wrong with it is said before work starts
        yield Plan(run, path.stem, {**parameters, "dataset": str(path)})
        return
    for name in CLASS_NAMES if dataset == "all" else (dataset,):
        yield Plan(run, name, parameters)


def report(plan: Plan) -> None:
    """Prints where a run's results are, and its headline tables."""
    print(f"\n{plan.dataset}: notebooks, figures and tables are in {_relative(plan.folder)}")
    for headline in sorted((plan.folder / "figures").glob("headline*.md")):
        print(f"\n{_relative(headline)}\n\n{headline.read_text()}")


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"SEED must be a whole number from 0 to 2^32 - 1, got {text!r}")
    return int(text)


def main(arguments: Iterable[str] | None = None) -> int:
    """The command behind `make run`, `make baselines` and `make publish`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="reference")
    parser.add_argument("--dataset", default=BASELINE_DATASET)
    parser.add_argument("--run", default="reference")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--baselines", action="store_true", help="remake the regression baselines")
    parser.add_argument("--publish", action="store_true", help="copy a finished run into the project")
    options = parser.parse_args(arguments)
    if sys.stderr.isatty():
        os.environ.setdefault("ADVLENS_PROGRESS", os.ttyname(sys.stderr.fileno()))
    else:
        os.environ.setdefault("ADVLENS_PROGRESS", "off")
    try:
        if options.baselines:
            make_baselines()
        elif options.publish:
            publish(options.run, seed=_seed(options.seed))
        else:
            chosen = list(plans(options.run, options.dataset, options.profile, _seed(options.seed)))
            for plan in chosen:
                execute(plan)
            for plan in chosen:
                report(plan)
            if options.profile != "reference":
                print(
                    f"These are the {options.profile} sizes, for trying things out: no figure of theirs means anything."
                )
    except (ValueError, RuntimeError, OSError, yaml.YAMLError) as error:
        print(f"advlens: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
