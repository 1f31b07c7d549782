"""What of a run is committed: the notebooks' outputs, figures and tables, and the regression baselines."""

import os
import platform
import shutil
from pathlib import Path

import nbformat

from advlens.datasets import CLASS_NAMES
from advlens.folders import written_whole
from advlens.paths import project_root
from advlens.profiles import notebooks, profile_parameters
from advlens.runs import Plan, code_cells, execute, is_done, relative

BASELINE_DATASET = "mnist"
BASELINES = ("baselines", "smoke")  # the run's name, and its profile
PROCESSOR = "processor.txt"  # beside the baselines: on which kind of processor they were made
VECTORS = {"avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "asimd", "sve"}


def publish(run: str, *, profile: str = "full", seed: int = 0) -> None:
    """Copies a finished run's outputs into notebooks/, and its figures and tables into figures/.

    The notebooks keep their prose and parameters and get the outputs of the MNIST run, without paths and times.

    Raises:
        RuntimeError: where the run is not finished, or code or parameters are no longer those that it ran with.
    """
    parameters = {**profile_parameters(profile), "seed": seed}
    plans = [Plan(run, name, parameters) for name in CLASS_NAMES]
    plans = [plan for plan in plans if plan.dataset == BASELINE_DATASET or plan.folder.exists()]
    for plan in plans:  # all are checked before anything is replaced
        for notebook, target, _, key in plan.steps():
            if not is_done(target, key):
                raise RuntimeError(
                    f"{notebook.name} of {plan.dataset} is not done with today's code and parameters: make the run "
                    f"again, with make run PROFILE={profile} RUN={run} DATASET={plan.dataset} SEED={seed}"
                )
        if not (plan.folder / "figures").is_dir():
            raise RuntimeError(f"{relative(plan.folder)} has no figures: remove it and make the run again")
    for plan in plans:
        if plan.dataset == BASELINE_DATASET:
            for notebook, target, _, _ in plan.steps():
                nbformat.write(_with_outputs_of(target, notebook), notebook)
        pictures = project_root() / "figures" / plan.dataset
        with written_whole(pictures, replace=True) as place:
            shutil.copytree(plan.folder / "figures", place, dirs_exist_ok=True)


def processor() -> str:
    """What decides how a training rounds: the machine's kind and its vector instructions."""
    known = Path("/proc/cpuinfo")
    found = set(known.read_text().split()) if known.exists() else set()
    return " ".join([platform.machine(), *sorted(found & VECTORS)])


def make_baselines() -> None:
    """Executes every notebook at smoke size and stores the copies under tests/notebooks, with the processor's kind."""
    os.environ["ADVLENS_PROGRESS"] = "off"
    run, profile = BASELINES
    plan = Plan(run, BASELINE_DATASET, profile_parameters(profile))
    shutil.rmtree(plan.folder, ignore_errors=True)
    execute(plan)
    for notebook in notebooks():
        book = _committable(plan.folder / "notebooks" / notebook.name)
        for cell in code_cells(book):
            for output in cell.outputs:  # a figure is compared by its description
                output.get("data", {}).pop("image/png", None)
        nbformat.write(book, project_root() / "tests" / "notebooks" / notebook.name)
    (project_root() / "tests" / "notebooks" / PROCESSOR).write_text(f"{processor()}\n")


def _with_outputs_of(executed: Path, notebook: Path) -> nbformat.NotebookNode:
    """A notebook as it is, prose included, with the outputs that its code had in a run."""
    book = nbformat.read(notebook, as_version=4)
    pairs = zip(code_cells(book), code_cells(_committable(executed)), strict=True)
    for number, (cell, done) in enumerate(pairs, 1):
        cell.outputs, cell.execution_count = done.outputs, number
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = number
    return book


def _committable(executed: Path) -> nbformat.NotebookNode:
    """An executed notebook without papermill's paths and times."""
    book = nbformat.read(executed, as_version=4)
    book.metadata.pop("papermill", None)
    for cell in book.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
    return book
