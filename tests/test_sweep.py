"""Sweeps: files that are refused, and small grids on two real Dask workers, one of which is killed."""

import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster

from advlens import cli, profiles, runs, sweep
from advlens.benchmark import LONG_TABLE
from advlens.store.store import Store, list_artifacts
from advlens.suite import LEARNT, METRICS_ASKED, Sizes, Suite
from advlens.sweep_plan import Task, read
from advlens.workbench import Workbench
from tests.test_runs import write_notebook

PARAMETERS = 'run: str = ""\ndataset: str = ""\nseed: int = 0\namount: int = 1\nshares: list = [0.5]'
NOTEBOOK = (
    "from pathlib import Path\nPath('../figures').mkdir()\nPath('../figures/part.csv').write_text(str(12 / amount))"
)
DETECTORS = f"""
import os, signal, time
from pathlib import Path

HERE, CLIENT = Path(__file__).parent, {os.getpid()}

def bright(images):
    return images.mean(axis=(1, 2, 3))

def killed_once(images):
    if not (HERE / "killed").exists():
        (HERE / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return bright(images)

def stops_all(images):
    if not (HERE / "stopped").exists():
        (HERE / "stopped").touch()
        os.kill(CLIENT, signal.SIGINT)
        time.sleep(3)
    return bright(images)

def fails(images):
    return images.no_such_thing()
"""
GRID = """
name: tiny
dataset: digits.npz
benchmark: {{detectors: [{0}], attacks: [fgsm], images: [{1}], epochs: 10, training_seeds: 1, clean: 200}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, mnist):
    """A folder to stand in: a project of one small notebook, 400 digits, detectors of a user's own, and all results."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "notebooks" / "parameters").mkdir(parents=True)
    (folder / "notebooks" / "parameters" / "standard.yaml").write_text("")
    write_notebook(folder / "notebooks" / "01_first.ipynb", NOTEBOOK, parameters=PARAMETERS)
    np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
    (folder / "of_a_sweep.py").write_text(DETECTORS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        for module in (runs, profiles):
            patch.setattr(module, "project_root", lambda: folder)
        yield folder


def in_a_worker(folder) -> None:
    """The same project in a worker, and a line in `made` for each artifact that its store computes."""
    make = Store._make

    def told(self, path, *about):
        with (folder / "made").open("a") as file:
            file.write(f"{path.name}\n")
        make(self, path, *about)

    patch = pytest.MonkeyPatch()
    patch.setattr(Store, "_make", told)
    for module in (runs, profiles):
        patch.setattr(module, "project_root", lambda: folder)


@pytest.fixture(scope="module")
def scheduler(place):
    """The address of a scheduler with two workers."""
    with sweep.connected(workers=2) as client:
        client.run(in_a_worker, place)
        assert client.scheduler is not None
        yield client.scheduler.address


def sweep_file(place, text: str):
    (place / "mine.yaml").write_text(text)
    return place / "mine.yaml"


def benchmark(about: str) -> str:
    return f"benchmark: {{{about}}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must map names to values, as `notebooks: "),
        ("name: a\nname: b", "can't be read: name stands there twice"),
        ("name: try", "it asks for nothing: name notebooks, a benchmark, or both"),
        ("notebook: [01_first]", "no key is called 'notebook': known are name, dataset, profile, notebooks"),
        ("name: ../up\nnotebooks: 01_first", "name must be a plain name"),
        ("notebooks: [02_second]", "no notebook is called '02_second': known are 01_first"),
        ("notebooks: []", "notebooks lists no value"),
        ("notebooks: [[01_first]]", r"no notebook is called \['01_first'\]"),
        ("notebooks: 01_first\nprofile: fast", "no profile is called 'fast'"),
        ("notebooks: 01_first\ndataset: [mnist, cifar]", "DATASET must be mnist, .* got 'cifar'"),
        ("notebooks: 01_first\ndataset: [mnist, all]", "dataset lists 'mnist' twice"),
        ("notebooks: 01_first\nparameters: [1]", r"parameters must map names to lists of values, got \[1\]"),
        ("notebooks: 01_first\nparameters: {amuont: [1]}", "called 'amuont': known are seed, amount, shares"),
        ("notebooks: 01_first\nparameters: {dataset: [mnist]}", "no key of parameters is called 'dataset'"),
        ("notebooks: 01_first\nparameters: {amount: [1, 1]}", "amount lists 1 twice: name each value once"),
        ("notebooks: 01_first\nparameters: {amount: [1, two]}", "amount must be a whole number.*, got 'two'"),
        ("notebooks: 01_first\nparameters: {shares: [0.5]}", "shares must be a list of numbers.*, got 0.5"),
        ("notebooks: 01_first\nparameters: {seed: 4294967296}", "seed must be a whole number from 0 to"),
        (f"parameters: {{amount: [1]}}\n{benchmark('')}", "parameters and a profile are of notebooks: name these too"),
        ("benchmark: [energy]", r"benchmark must map names to lists of values, got \['energy'\]"),
        (benchmark("detector: energy"), "no key of benchmark is called 'detector': known are detectors, attacks, see"),
        (benchmark("detectors: [enrgy]"), "no detector is called 'enrgy': known are all_six, deep_knn"),
        (benchmark("detectors: [2]"), "no detector is called 2"),
        (benchmark("detectors: ['no_such_module:it']"), "no module is called 'no_such_module'"),
        (benchmark("detectors: ['of_a_sweep:it']"), "of_a_sweep has no 'it': it has .*bright"),
        (benchmark("detectors: [energy, 'advlens.metrics:energy']"), "advlens.metrics has no 'energy'"),
        (benchmark("attacks: [fgsm, bgsm]"), "no attack of the suite is called 'bgsm': choose among fgsm"),
        (benchmark("images: [300, 2.5]"), "images must be a whole number, 1 or more, got 2.5"),
        (benchmark("strengths: 4"), "strengths must be at most 3, got 4"),
        (benchmark("seeds: [-1]"), "seed must be a whole number from 0 to"),
    ],
)
def test_a_fault_is_said_in_a_sentence_before_any_work(place, text, message):
    with pytest.raises(ValueError, match=f"^mine.yaml.*{message}"):
        read(sweep_file(place, text))


def test_a_missing_file_is_bad_input(place, capsys):
    assert cli.main(["sweep", "none.yaml"]) == 2
    assert "'none.yaml' is no file" in capsys.readouterr().err
    sweep_file(place, "notebooks: 01_first\ndataset: none.npz")
    assert cli.main(["sweep", "mine.yaml"]) == 2
    assert "none.npz' is no file" in capsys.readouterr().err


def test_a_file_s_cells_are_the_whole_grid_and_their_keys_are_of_all_that_they_rest_on(place):
    text = "parameters: {amount: [1, 2], shares: [[0.5], []]}\nnotebooks: 01_first\ndataset: [mnist, fashion_mnist]\n"
    name, cells = read(sweep_file(place, text + benchmark("detectors: [energy, 'of_a_sweep:bright'], seeds: [0, 1]")))
    assert name == "mine"
    assert len({cell.target for cell in cells}) == len({cell.key for cell in cells}) == 2 * (4 + 4)
    assert [len(cell.needs) for cell in cells[:8]] == [0] * 8
    grid = [[cell.about[label] for label in ("dataset", "seed", "detector")] for cell in cells[8:]]
    assert grid == list(
        map(list, itertools.product(("mnist", "fashion_mnist"), (0, 1), ("energy", "of_a_sweep:bright")))
    )
    _, before = read(sweep_file(place, GRID.format("energy, 'of_a_sweep:bright'", 60)))
    (place / "of_a_sweep.py").write_text(DETECTORS + "\n")
    _, edited = read(place / "mine.yaml")
    os.utime(place / "digits.npz")
    _, other_data = read(place / "mine.yaml")
    keys = [[cell.key for cell in cells] for cells in (before, edited, other_data)]
    assert [len(set(each)) for each in zip(*keys, strict=True)] == [2, 3]
    assert [cell.target for cell in before] == [cell.target for cell in other_data]


def test_a_notebook_s_cell_keeps_its_figures_apart_and_shares_the_sweep_s_store(place):
    bench = Workbench(run="tiny/cell", dataset="digits.npz", seed=0)
    assert bench.folder == place / "runs" / "tiny" / "cell" / "digits"
    assert bench.store.folder == place / "runs" / "tiny" / "digits" / "artifacts"
    with pytest.raises(ValueError, match="RUN must be a plain name"):
        Workbench(run="tiny/cell/more", dataset="digits.npz", seed=0)


def test_what_two_cells_want_is_computed_once_and_their_tables_are_the_suite_s(place, scheduler):
    name, cells = read(sweep_file(place, GRID.format("energy", "60, 100")))
    table = sweep.run(name, cells, scheduler=scheduler)
    assert table["state"].tolist() == ["done", "done"]
    assert set(table["worker"]) <= {"0", "1"}
    kept = [row["folder"] for row in list_artifacts(place / "runs" / "tiny" / "digits" / "artifacts")]
    assert Counter((place / "made").read_text().split()) == Counter(kept)
    assert sum(each.startswith("task_network.") for each in kept) == 1
    joined = pd.read_parquet(place / "runs" / "tiny" / "sweep.parquet")
    assert set(joined["images"]) == {60, 100}
    sizes = Sizes(images=100, epochs=10, training_seeds=1, clean=200)
    suite = Suite(Workbench(run="tiny", dataset="digits.npz", seed=0), sizes, attacks=["fgsm"])
    expected = suite.benchmark.run([suite.single("energy")], trained_on=LEARNT, wanted=METRICS_ASKED)
    own = joined.query("images == 100")[list(LONG_TABLE.columns)].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, expected, rtol=1e-3)


def test_a_killed_worker_s_cell_is_done_again_and_a_failing_one_stops_nothing(place, scheduler, monkeypatch, capsys):
    sweep.run(*read(sweep_file(place, GRID.format("energy", 60))), scheduler=scheduler)
    capsys.readouterr()
    sweep_file(place, GRID.format("energy, 'of_a_sweep:killed_once', 'of_a_sweep:fails', max_logit", 60))
    assert cli.main(["sweep", "mine.yaml", "--scheduler", scheduler, "--retries", "0"]) == 1
    said = capsys.readouterr().out
    assert "4 cells, 1 of them done before" in said
    assert "2 done, 1 done before, 1 failed; see " in said
    assert "failed: detector of_a_sweep:fails, dataset digits, images 60" in said
    table = pd.read_csv(place / "runs" / "tiny" / "sweep.csv").set_index("detector")
    assert table["state"].to_dict() == {
        **{"energy": "done before", "of_a_sweep:killed_once": "done", "of_a_sweep:fails": "failed", "max_logit": "done"}
    }
    assert table["seconds"].notna().tolist() == [True, True, False, True]
    assert "fails fails: AttributeError: " in str(table.loc["of_a_sweep:fails", "error"])
    assert (place / "killed").exists()
    joined = pd.read_parquet(place / "runs" / "tiny" / "sweep.parquet")
    assert {"energy", "max logit", "killed_once", "max softmax"} <= set(joined["detector"])
    assert not joined.duplicated([*(LONG_TABLE.unique or ()), "images", "seed"]).any()
    monkeypatch.setattr(sweep, "connected", None)  # a second call starts nothing
    sweep_file(place, GRID.format("energy, 'of_a_sweep:killed_once', max_logit", 60))
    assert cli.main(["sweep", "mine.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "tiny: 3 cells, 3 of them done before"


def test_a_stopped_sweep_keeps_what_is_done_and_says_how_to_go_on(place, scheduler, capsys):
    sweep_file(place, GRID.format("'of_a_sweep:stops_all'", 60))
    assert cli.main(["sweep", "mine.yaml", "--scheduler", scheduler]) == 130
    assert capsys.readouterr().err == "advlens: stopped; run the same command to go on\n"
    assert pd.read_csv(place / "runs" / "tiny" / "sweep.csv")["state"].tolist() == ["not done"]


def test_a_notebook_s_cells_have_a_folder_each(place, scheduler, monkeypatch):
    name, cells = read(sweep_file(place, "name: books\nnotebooks: [01_first]\nparameters: {amount: [3, 0, 4]}"))
    monkeypatch.setattr(sweep, "fetch", lambda name: None)
    with sweep.connected(scheduler=scheduler) as client:
        client.wait_for_workers(2, timeout=60)
        client.run(in_a_worker, place)  # the one that was started anew
    table = sweep.run(name, cells, scheduler=scheduler, retries=0).set_index("amount")
    assert table["state"].to_dict() == {3: "done", 0: "failed", 4: "done"}
    assert "01_first failed: ZeroDivisionError" in table.loc[0, "error"]
    assert "01_first.failed.ipynb for the cell" in table.loc[0, "error"]
    for amount in (3, 4):
        folder = (place / "runs" / "books" / table.loc[amount, "result"]).parents[1]
        assert (folder / "figures" / "part.csv").read_text() == str(12 / amount)
    assert not (place / "runs" / "books" / "sweep.parquet").exists()


def test_a_sweep_without_a_worker_says_that_it_waits(monkeypatch, capsys):
    monkeypatch.setattr(sweep, "as_completed", lambda futures, loop: [])  # waits for none
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        done = sweep.finished([Task(about={}, do=print)], print, retries=0, scheduler=cluster.scheduler_address)
        assert list(done) == []
    assert capsys.readouterr().out == "no worker has come yet: waiting for one\n"


def test_workers_of_several_threads_are_refused_also_later_ones(tmp_path):
    about = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": "127.0.0.1:0"}
    said = r"a worker does one task at a time, and inproc://\S+ would more: start it with --nthreads 1"
    with LocalCluster(**about) as cluster:
        with pytest.raises(ValueError, match=said):
            list(sweep.finished([Task(about={}, do=print)], print, retries=0, scheduler=cluster.scheduler_address))
        with sweep.connected(scheduler=cluster.scheduler_address) as client, pytest.raises(ValueError, match=said):
            client.submit(sweep.work, print, str(tmp_path), []).result()


def test_the_page_asks_slurm_for_workers_of_one_task(tmp_path, monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue", reason="pip install dask-jobqueue")
    page = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text()
    (code,) = re.findall(r"```\n(from dask_jobqueue.*?)```", page, re.DOTALL)
    asked, names = [], {"input": lambda said: asked.append(said.split()[-5])}
    monkeypatch.setattr(jobqueue.SLURMCluster, "adapt", lambda self, **jobs: asked.append(jobs))
    exec(code.replace("/shared", str(tmp_path)), names)
    with names["cluster"] as cluster:
        script, address = cluster.job_script(), cluster.scheduler_address
    assert asked == [{"minimum_jobs": 100, "maximum_jobs": 100}, address]
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    lines = script.splitlines()
    assert {f"cd {tmp_path}/advlens", "#SBATCH --cpus-per-task=4", "#SBATCH --gres=gpu:1"} < set(lines)
    assert f"dask_worker {address} --name dummy-name --nthreads 1 " in lines[-1]
