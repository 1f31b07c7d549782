"""Papermill plans, on small notebooks of their own in a project folder of their own."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from advlens import cli, lanes, profiles, publishing, runs
from advlens.profiles import declared_parameters, profile_parameters
from advlens.runs import Plan, Stopped, code_of, execute, plans
from advlens.workbench import Workbench


def write_notebook(path, code: str, *, parameters: str = 'run = ""\ndataset = ""\namount = 1') -> None:
    cells = [nbformat.v4.new_code_cell(parameters), nbformat.v4.new_code_cell(code)]
    cells[0].metadata["tags"] = ["parameters"]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project; every execution of a notebook adds a line to its `log`."""
    (tmp_path / "notebooks" / "parameters").mkdir(parents=True)
    (tmp_path / "notebooks" / "parameters" / "full.yaml").write_text("")
    (tmp_path / "tests" / "notebooks").mkdir(parents=True)
    for module in (runs, profiles, publishing):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    monkeypatch.setenv("ADVLENS_DATA", str(tmp_path / "data"))
    return tmp_path


def logging_cell(project, text: str) -> str:
    return f"with open({str(project / 'log')!r}, 'a') as log:\n    print({text}, file=log)"


def test_a_dead_kernel_is_named_with_its_cell_and_its_outputs_are_kept(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "print('so far', flush=True)")
    book = nbformat.read(project / "notebooks" / "01_first.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_code_cell("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))
    nbformat.write(book, project / "notebooks" / "01_first.ipynb")
    plan = Plan("try", "mnist", {})
    with pytest.raises(RuntimeError, match=r"01_first, cell 3: its kernel died .*GiB.*01_first\.failed\.ipynb"):
        execute(plan)
    (failed,) = (plan.folder / "notebooks").glob("*.ipynb")
    assert failed.name == "01_first.failed.ipynb"
    assert "so far" in failed.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_where_and_how_to_go_on(project, number, code, capfd):
    ask = f"import os, time\nos.kill(os.getppid(), {int(number)})\ntime.sleep(20)"
    write_notebook(project / "notebooks" / "01_first.ipynb", ask)
    plan = Plan("try", "mnist", {})
    with pytest.raises(Stopped, match=r"stopped in 01_first, cell \d; run the same command to go on") as stopped:
        execute(plan)
    assert stopped.value.code == code
    assert "Traceback" not in "".join(capfd.readouterr())
    assert list((plan.folder / "notebooks").glob("*.ipynb")) == []
    assert list((plan.folder / "notebooks").glob(".partial-*")) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_any_command_that_is_stopped_cleans_up_and_says_how_to_go_on(number, code, monkeypatch, capsys):
    cleaned, before = [], signal.getsignal(signal.SIGTERM)

    def work(**about):
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(about["run"])

    monkeypatch.setattr("advlens.workbench.Workbench", work)
    assert cli.main(["benchmark", "--run", "try"]) == code
    assert capsys.readouterr().err == "advlens: stopped; run the same command to go on\n"
    assert cleaned == ["try"]
    assert signal.getsignal(signal.SIGTERM) is before


WAIT = """import os, time
open({own!r}, "w").close()
for _ in range(600):
    if os.path.exists({other!r}): break
    time.sleep(0.1)
else: raise TimeoutError"""


ORPHANS = """from pathlib import Path
from advlens import runs
with runs.locked(Path({folder!r})) as lock:
    runs._side_by_side("mnist", {steps!r}, 2, lock)"""


def in_lanes(project, *codes) -> Plan:
    """A plan of as many notebooks as there are codes."""
    for number, code in enumerate(codes, 1):
        write_notebook(project / "notebooks" / f"{number:02}_book.ipynb", code)
    return Plan("try", "mnist", {})


def waiting(project, own: str, other: object) -> str:
    return WAIT.format(own=str(project / own), other=str(other))


def test_notebooks_in_two_lanes_are_at_work_at_once_and_the_third_waits(project):
    met = [waiting(project, own, project / other) for own, other in ("ab", "ba")]
    plan = in_lanes(
        project,
        *met,
        logging_cell(project, "amount, os.environ['OMP_NUM_THREADS']").replace("with", "import os\nwith", 1),
    )
    execute(plan, lanes=2)
    execute(plan, lanes=2)
    assert (project / "log").read_text() == f"1 {os.environ.get('OMP_NUM_THREADS') or max(1, lanes._cores() // 2)}\n"


def test_in_lanes_the_longest_notebooks_start_first(project, monkeypatch):
    started = []
    monkeypatch.setattr(runs, "side_by_side", lambda tasks, command, **about: (started.extend(tasks), ({}, 0))[1])
    for number in ("00", "04", "08", "12"):
        write_notebook(project / "notebooks" / f"{number}_book.ipynb", "")
    execute(Plan("try", "mnist", {}), lanes=2)
    assert started == [f"{number}_book" for number in ("12", "04", "00", "08")]


def reaped(path) -> bool:
    """Whether the process whose id stands in a file has ended and its parent has seen it."""
    with contextlib.suppress(FileNotFoundError, ValueError):  # not written yet
        return not Path("/proc", Path(path).read_text().strip() or "self").exists()
    return False


def test_one_that_fails_lets_the_other_lane_s_notebook_end_and_starts_no_third(project, capsys):
    process, gone = str(project / "process"), project / "gone"
    fails = f"import os\nprint(os.getppid(), file=open({process!r}, 'w'))\nraise ValueError('no\\nmore')"
    waits = f"{waiting(project, 'b', gone)}\n{logging_cell(project, 2)}"
    threading.Thread(target=lambda: (soon(lambda: reaped(process)), gone.touch()), daemon=True).start()
    with pytest.raises(RuntimeError, match=r"^01_book failed: ValueError: no\nmore; see .*01_book\.failed\.ipynb"):
        execute(in_lanes(project, fails, waits, logging_cell(project, 3)), lanes=2)
    assert (project / "log").read_text() == "2\n"
    assert "mnist 01_book: failed, the other lane comes to its end\n" in capsys.readouterr().out


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (SystemExit, 143)])
def test_lanes_that_are_stopped_say_where_each_was(project, monkeypatch, stop, code):
    books, pause = [waiting(project, name, project / "never") for name in "ab"], time.sleep

    def sleep(seconds):
        pause(seconds)
        if (project / "a").exists() and (project / "b").exists():
            raise stop

    monkeypatch.setattr(lanes.time, "sleep", sleep)
    with pytest.raises(Stopped, match=r"^stopped in 01_book, cell \d and 02_book, cell \d; run the same") as stopped:
        execute(in_lanes(project, *books), lanes=2)
    assert stopped.value.code == code
    assert list((project / "data").rglob("*.ipynb")) == []


def test_lanes_of_a_killed_run_end_and_hold_its_folder_until_then(project):
    plan = in_lanes(project, *(waiting(project, name, project / "never") for name in "ab"))
    steps = [[str(notebook), str(target), parameters, key] for notebook, target, parameters, key in plan.steps()]
    code = ORPHANS.format(folder=str(plan.folder), steps=dict(zip("ab", steps, strict=True)))
    parent = subprocess.Popen([sys.executable, "-c", code])
    soon(lambda: (project / "a").exists() and (project / "b").exists())
    parent.kill()
    parent.wait()
    with pytest.raises(RuntimeError, match="another run is at work"), runs.locked(plan.folder):
        pass

    def free() -> bool:
        try:
            with runs.locked(plan.folder):
                return True
        except RuntimeError:
            return False

    soon(free)
    assert list((project / "data").rglob("*.ipynb")) == []


def soon(holds) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise TimeoutError


def test_lanes_follow_from_the_memory_and_cores_that_a_process_has(monkeypatch, tmp_path):
    pages = {"SC_PAGE_SIZE": 2**30, "SC_PHYS_PAGES": 15.5}
    monkeypatch.setattr(lanes.os, "sysconf", pages.get)
    monkeypatch.setattr(lanes, "CONTAINER", tmp_path / "memory.max")
    monkeypatch.setattr(lanes, "_cores", lambda: 4)
    assert lanes.lanes_here() == 2
    lanes.CONTAINER.write_text(f"{8 * 2**30}\n")
    assert lanes.lanes_here() == 1
    lanes.CONTAINER.write_text("max\n")
    monkeypatch.setattr(lanes, "_cores", lambda: 1)
    assert lanes.lanes_here() == 1


def test_a_healthy_run_prints_no_noise(project, capfd):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1")
    execute(Plan("try", "mnist", {}))
    assert capfd.readouterr() == ("mnist 01_first: running\n", "")


def test_sockets_fit_whatever_folder_is_for_temporary_files(monkeypatch):
    monkeypatch.setattr(runs.tempfile, "gettempdir", lambda: "/" + "x" * 95)
    assert len(f"{runs.LocalKernelManager().ip}-1") < 107


def test_two_runs_in_one_folder_have_sockets_of_their_own():
    first, second = runs.LocalKernelManager(), runs.LocalKernelManager()
    assert first.transport == "ipc"
    assert first.ip != second.ip


def test_notebooks_run_in_order_with_their_parameters_and_only_once(project):
    for name in ("02_second", "01_first"):
        write_notebook(project / "notebooks" / f"{name}.ipynb", logging_cell(project, f"'{name}', amount, run"))
    plan = Plan("try", "mnist", {"amount": 5, "unused": 1})
    execute(plan)
    execute(plan)
    assert (project / "log").read_text().splitlines() == ["01_first 5 try", "02_second 5 try"]
    assert sorted(path.name for path in (plan.folder / "notebooks").glob("*.ipynb")) == [
        "01_first.ipynb",
        "02_second.ipynb",
    ]


def test_other_parameters_or_another_version_of_what_it_read_run_again(project, monkeypatch):
    tell = "import os\nprint('advlens.made_up.make 1', file=open(os.environ['ADVLENS_READS'], 'a'), flush=True)\n"
    write_notebook(project / "notebooks" / "01_first.ipynb", tell + logging_cell(project, "amount"))
    lock = {"advlens.made_up.make": {"version": 1}, "advlens.other.make": {"version": 1}}
    monkeypatch.setattr(runs, "read_lock", lambda: lock)
    execute(Plan("try", "mnist", {"amount": 1}))
    execute(Plan("try", "mnist", {"amount": 2}))
    lock["advlens.other.make"] = {"version": 2}
    execute(Plan("try", "mnist", {"amount": 2}))
    assert (project / "log").read_text().split() == ["1", "2"]
    lock["advlens.made_up.make"] = {"version": 2}
    execute(Plan("try", "mnist", {"amount": 2}))
    assert (project / "log").read_text().split() == ["1", "2", "2"]


def test_a_changed_notebook_runs_again_and_the_others_do_not(project):
    for name in ("01_first", "02_second"):
        write_notebook(project / "notebooks" / f"{name}.ipynb", logging_cell(project, f"'{name}'"))
    execute(Plan("try", "mnist", {}))
    write_notebook(project / "notebooks" / "01_first.ipynb", logging_cell(project, "'changed'"))
    execute(Plan("try", "mnist", {}))
    assert (project / "log").read_text().split() == ["01_first", "02_second", "changed"]


def test_a_failing_notebook_is_kept_aside_and_reported_in_a_sentence(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1 / 0")
    plan = Plan("try", "mnist", {})
    with pytest.raises(RuntimeError, match=r"01_first failed: ZeroDivisionError: division by zero; see data/runs"):
        execute(plan)
    assert [path.name for path in (plan.folder / "notebooks").glob("*.ipynb")] == ["01_first.failed.ipynb"]
    write_notebook(project / "notebooks" / "01_first.ipynb", "1 / 1")
    execute(plan)
    assert [path.name for path in (plan.folder / "notebooks").glob("*.ipynb")] == ["01_first.ipynb"]


def test_two_runs_of_one_folder_at_once_are_refused(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1")
    plan = Plan("try", "mnist", {})
    with (
        runs.locked(plan.folder),
        pytest.raises(RuntimeError, match="another run is at work in data/runs/try/mnist"),
    ):
        execute(plan)


def test_baselines_keep_no_path_and_no_time(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "print('the result')")
    (project / "notebooks" / "parameters" / "smoke.yaml").write_text("amount: 2")
    publishing.make_baselines()
    text = (project / "tests" / "notebooks" / "01_first.ipynb").read_text()
    assert "the result" in text
    assert str(project) not in text
    assert "start_time" not in text
    assert code_of(project / "tests" / "notebooks" / "01_first.ipynb") == code_of(
        project / "notebooks" / "01_first.ipynb"
    )


def test_publishing_takes_outputs_and_keeps_the_prose(project):
    path = project / "notebooks" / "01_first.ipynb"
    write_notebook(path, "print('the result')")
    execute(Plan("try", "mnist", {"seed": 0}))
    (Plan("try", "mnist", {}).folder / "figures").mkdir()
    book = nbformat.read(path, as_version=4)
    book.cells.insert(0, nbformat.v4.new_markdown_cell("New prose."))
    nbformat.write(book, path)
    publishing.publish("try")
    published = nbformat.read(path, as_version=4)
    assert [cell.source for cell in published.cells] == [cell.source for cell in book.cells]
    assert published.cells[2].outputs[0].text == "the result\n"
    write_notebook(path, "print('another result')")
    committed = path.read_text()
    with pytest.raises(
        RuntimeError, match=r"01_first.ipynb of mnist is not done with today's code and parameters: make the run"
    ):
        publishing.publish("try")
    assert path.read_text() == committed


def test_a_profile_s_misspelt_parameter_is_named(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1")
    (project / "notebooks" / "parameters" / "standard.yaml").write_text("amuont: 2")
    with pytest.raises(ValueError, match=r"standard.yaml sets amuont, which no notebook declares"):
        profile_parameters("standard")


PARAMETERS = """run: str = ""
dataset: str = ""
amount: int = 1000
share: float = 0.5
flag: bool = True
strengths: list = [0.1, 0.2]
name: str = "fgsm"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("amount: 1e3", r"amount must be a whole number, 0 or more, as 1000 \(write 1000, not 1e3\), got '1e3'"),
        ("amount: '5'", "amount must be a whole number"),
        ("amount: -1", "amount must be a whole number"),
        ("amount: true", "amount must be a whole number"),
        ("amount: 2.5", "amount must be a whole number"),
        ("share: .nan", "share must be a number, 0 or more, as 0.5, got nan"),
        ("share: 2026-01-01", "share must be a number"),
        ("flag: 1", "flag must be true or false, got 1"),
        ("strengths: 0.1", "strengths must be a list of numbers, 0 or more"),
        ("strengths: [.inf]", "strengths must be a list of numbers, 0 or more"),
        ("strengths: ['0.1']", "strengths must be a list of numbers, 0 or more"),
        ("strengths: [true]", "strengths must be a list of numbers, 0 or more"),
        ("strengths: [0.1, -0.1]", "strengths must be a list of numbers, 0 or more"),
        ("strengths: [[0.1]]", "strengths must be a list of numbers, 0 or more"),
        ("name: 3", "name must be a str, as 'fgsm', got 3"),
        ("amount: 1\namount: 2", "mine.yaml can't be read: amount stands there twice: keep one"),
        ("1: 2", "must map names to values"),
        ("null: 2\namount: 1", "must map names to values"),
        ("amount: !!python/object/apply:os.system [ls]", "mine.yaml can't be read"),
    ],
)
def test_a_profile_s_values_are_checked_by_type_and_range_before_work(project, text, message):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1", parameters=PARAMETERS)
    (project / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        profile_parameters(str(project / "mine.yaml"))


def test_right_values_are_taken_as_they_are(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1", parameters=PARAMETERS)
    (project / "mine.yaml").write_text("amount: 7\nshare: 1\nflag: false\nstrengths: []\nname: pgd")
    assert profile_parameters(str(project / "mine.yaml")) == {
        **{"amount": 7, "share": 1, "flag": False, "strengths": [], "name": "pgd"}
    }


def test_the_project_s_own_profiles_and_defaults_are_right():
    for profile in profiles.PROFILES:
        profile_parameters(profile)
    assert all({"run", "dataset", "seed"} <= set(declared_parameters(notebook)) for notebook in profiles.notebooks())


def test_a_profile_may_be_a_file_of_one_s_own(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1")
    own = project / "mine.yaml"
    own.write_text("amount: 7")
    assert profile_parameters(str(own)) == {"amount": 7}
    own.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"mine\.yaml must map names to values"):
        profile_parameters(str(own))
    with pytest.raises(FileNotFoundError):
        profile_parameters(str(project / "none.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("try", "cifar", "standard", 0),
            "DATASET must be mnist, fashion_mnist, all, or the path of an .npz, got 'cifar'",
        ),
        (("../up", "mnist", "standard", 0), "RUN must be a plain name"),
        (("try", "mnist", "fast", 0), "no profile is called 'fast': choose one of smoke, standard, full"),
    ],
)
def test_a_wrong_command_is_refused_in_a_sentence(project, arguments, message):
    with pytest.raises(ValueError, match=message):
        list(plans(*arguments))


def test_all_is_one_plan_a_data_set(project):
    made = list(plans("try", "all", "full", 3))
    assert [plan.dataset for plan in made] == ["mnist", "fashion_mnist"]
    assert all(plan.parameters == {"seed": 3} for plan in made)


def test_a_user_s_file_is_loaded_before_work_and_found_from_anywhere(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", x=np.zeros((20, 4, 4), np.uint8), y=np.arange(20) % 2)
    (plan,) = plans("try", "mine.npz", "full", 3)
    assert plan.folder.name == "mine"
    assert plan.parameters == {"seed": 3, "dataset": str(tmp_path / "mine.npz")}
    with pytest.raises(FileNotFoundError, match=r"none.npz' is no file"):
        list(plans("try", "none.npz", "full", 3))


def test_a_seed_that_is_no_number_is_refused_in_a_sentence(capsys):
    assert cli.main(["run", "--seed", "abc"]) == 1
    assert capsys.readouterr().err == "advlens: SEED must be a whole number from 0 to 2^32 - 1, got 'abc'\n"


def test_the_committed_baselines_hold_the_notebooks_code():
    for notebook in profiles.notebooks():
        baseline = notebook.parents[1] / "tests" / "notebooks" / notebook.name
        assert baseline.exists(), f"{notebook.name} has no baseline: make baselines"
        assert code_of(baseline) == code_of(notebook), f"{notebook.name} has changed: make baselines"


def test_the_command_says_what_it_can_do_and_what_is_wrong(capsys, monkeypatch, tmp_path):
    assert cli.main(["--help"]) == 0
    assert {"run", "publish", "baselines", "store"} <= set(capsys.readouterr().out.split())
    assert cli.main(["run", "--no-such-option"]) == 2
    assert "advlens: No such option" in capsys.readouterr().err
    monkeypatch.setenv("ADVLENS_DATA", str(tmp_path))
    assert cli.main(["store", "ls", "--run", "none"]) == 1
    assert "name a run and a data set that were run" in capsys.readouterr().err
    for number, remedy in (
        (13, "make it writable"),
        (27, "the file system"),
        (28, "the disk is full"),
        (30, "it is read-only"),
    ):
        error = OSError(number, "no", "/some/file")
        monkeypatch.setattr(runs, "plans", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert cli.main(["run"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"advlens: /some/file: {remedy}")
        assert "ADVLENS_DATA" in said
    monkeypatch.setattr(runs, "plans", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert cli.main(["run"]) == 1  # as Python raises it for a file that is open
    assert capsys.readouterr().err.startswith("advlens: the data folder: the disk is full")
    whole = "raw/x could not be written: free some space, or name another folder in ADVLENS_DATA"
    monkeypatch.setattr(runs, "plans", lambda *_: (_ for _ in ()).throw(OSError(28, whole)))
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == f"advlens: {whole}\n"
    assert cli.main(["store", "gc", "--run", "../.."]) == 1
    assert "RUN must be a plain name" in capsys.readouterr().err


def test_a_kernel_dies_of_memory_only_where_it_had_more_than_those_before_it(monkeypatch):
    monkeypatch.setattr(runs, "_peak_memory", lambda: 1e6)
    assert "likely of memory" in runs._cause_of_death(1.0)
    assert "was killed, or a library crashed" in runs._cause_of_death(1e6)


def test_a_user_s_file_has_a_plain_name(project, tmp_path):
    for name in ("..npz", "...npz", "a b.npz", "a\nb.npz", f"{'x' * 200}.npz"):
        np.savez(tmp_path / name, x=np.zeros((20, 4, 4), np.uint8), y=np.arange(20) % 2)
        with pytest.raises(ValueError, match="file must be a plain name"):
            list(plans("try", str(tmp_path / name), "full", 0))
        with pytest.raises(ValueError, match="file must be a plain name"):
            Workbench(run="try", dataset=str(tmp_path / name), seed=0)
