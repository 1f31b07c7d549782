"""Papermill plans, on small notebooks of their own in a project folder of their own."""

import nbformat
import numpy as np
import pytest

from advlens import runs
from advlens.runs import Plan, code_of, execute, plans, profile_parameters


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
    (tmp_path / "tests" / "notebooks").mkdir(parents=True)
    monkeypatch.setattr(runs, "project_root", lambda: tmp_path)
    monkeypatch.setattr(runs, "data_dir", lambda: tmp_path / "data")
    return tmp_path


def logging_cell(project, text: str) -> str:
    return f"with open({str(project / 'log')!r}, 'a') as log:\n    print({text}, file=log)"


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
    runs.make_baselines()
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
    runs.publish("try")
    published = nbformat.read(path, as_version=4)
    assert [cell.source for cell in published.cells] == [cell.source for cell in book.cells]
    assert published.cells[2].outputs[0].text == "the result\n"
    write_notebook(path, "print('another result')")
    committed = path.read_text()
    with pytest.raises(
        RuntimeError, match=r"01_first.ipynb of mnist is not done with today's code and parameters: make the run"
    ):
        runs.publish("try")
    assert path.read_text() == committed


def test_a_profile_s_misspelt_parameter_is_named(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1")
    (project / "notebooks" / "parameters" / "quick.yaml").write_text("amuont: 2")
    with pytest.raises(ValueError, match=r"quick.yaml sets amuont, which no notebook declares"):
        profile_parameters("quick")


def test_a_profile_may_be_a_file_of_one_s_own(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", "1")
    own = project / "mine.yaml"
    own.write_text("amount: 7")
    assert profile_parameters(str(own)) == {"amount": 7}
    own.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"mine\.yaml must map parameters' names to values"):
        profile_parameters(str(own))
    with pytest.raises(FileNotFoundError):
        profile_parameters(str(project / "none.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("try", "cifar", "quick", 0),
            "DATASET must be mnist, fashion_mnist, all, or the path of an .npz, got 'cifar'",
        ),
        (("../up", "mnist", "quick", 0), "RUN must be a plain name"),
        (("try", "mnist", "fast", 0), "no profile is called 'fast': choose one of reference, quick, smoke"),
    ],
)
def test_a_wrong_command_is_refused_in_a_sentence(project, arguments, message):
    with pytest.raises(ValueError, match=message):
        list(plans(*arguments))


def test_all_is_one_plan_a_data_set(project):
    made = list(plans("try", "all", "reference", 3))
    assert [plan.dataset for plan in made] == ["mnist", "fashion_mnist"]
    assert all(plan.parameters == {"seed": 3} for plan in made)


def test_a_user_s_file_is_loaded_before_work_and_found_from_anywhere(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", x=np.zeros((20, 4, 4), np.uint8), y=np.arange(20) % 2)
    (plan,) = plans("try", "mine.npz", "reference", 3)
    assert plan.folder.name == "mine"
    assert plan.parameters == {"seed": 3, "dataset": str(tmp_path / "mine.npz")}
    with pytest.raises(FileNotFoundError, match=r"none.npz' is no file"):
        list(plans("try", "none.npz", "reference", 3))


def test_a_seed_that_is_no_number_is_refused_in_a_sentence(capsys):
    assert runs.main(["--seed", "abc"]) == 1
    assert capsys.readouterr().err == "advlens: SEED must be a whole number from 0 to 2^32 - 1, got 'abc'\n"


def test_the_committed_baselines_hold_the_notebooks_code():
    for notebook in runs.notebooks():
        baseline = notebook.parents[1] / "tests" / "notebooks" / notebook.name
        assert baseline.exists(), f"{notebook.name} has no baseline: make baselines"
        assert code_of(baseline) == code_of(notebook), f"{notebook.name} has changed: make baselines"
