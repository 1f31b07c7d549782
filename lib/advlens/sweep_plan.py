"""Sweep files, checked before any work starts, and what they ask for: tasks of names alone, which any worker can do."""

import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from advlens import entrants
from advlens.arrays import checked_seed
from advlens.detectors import names
from advlens.paths import checked_name, run_folder
from advlens.profiles import declared_parameters, fault_of, notebooks, own_parameters, read_mapping
from advlens.runs import Plan, execute, is_done, mark_done, plans
from advlens.store.keys import digest
from advlens.store.makers import read_lock
from advlens.suite import DETECTORS, LEARNT, METRICS_ASKED, Sizes, Suite, chosen_settings
from advlens.workbench import Workbench

SIZES = ("images", "strengths", "epochs", "training_seeds", "clean")  # of `Sizes`, all that the long table rests on


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """What a worker does at a time."""

    about: dict[str, Any]  # what was swept included
    do: Callable[[], None]  # a function of names alone
    needs: "tuple[Task, ...]" = ()  # done before

    def __str__(self) -> str:
        chosen = {name: value for name, value in self.about.items() if getattr(Sizes, name, None) != value}
        return ", ".join(f"{name} {value}" for name, value in chosen.items())


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell(Task):
    """A task that leaves a file: a notebook with one choice of parameters, or a detector's long table."""

    target: Path
    key: str  # of all that it rests on


@dataclass(frozen=True)
class Setting:
    """What a `Suite` is made of: a network and the attacks on it, which the detectors of a sweep share."""

    sweep: str
    dataset: str  # a name, or the path of an .npz
    seed: int
    sizes: Sizes
    attacks: tuple[str, ...]  # () for all of the suite's


@lru_cache(maxsize=1)
def suite_of(setting: Setting) -> Suite:
    """The suite of a setting; a worker keeps it until it opens another one."""
    bench = Workbench(run=setting.sweep, dataset=setting.dataset, seed=setting.seed)
    return Suite(bench, setting.sizes, attacks=setting.attacks)


def prepare(setting: Setting, attack: str = "") -> None:
    """Has the store keep a setting's network, or an attack set by its title: all its cells would wait for these."""
    suite = suite_of(setting)
    if attack:
        suite.attack_set(attack, *suite.settings[attack])


def judge(setting: Setting, detector: str, target: Path, key: str) -> None:
    """Writes the long table of a detector, of the catalogue or `module:name`, against all attacks of a setting."""
    if is_done(target, key):  # by a worker that died before it had said so
        return
    suite = suite_of(setting)
    module, _, own = detector.partition(":")
    if own:
        sys.modules.pop(module, None)  # a worker that lives on may hold what the file was before
        entrant = entrants.make(entrants.find(detector), suite.classifier, *suite.bench.training, name=own)
        benchmark = suite.benchmark_of(suite.attack_sets, store=None)  # nothing says when its code has changed
    else:
        entrant, benchmark = suite.single(detector), suite.benchmark
    table = benchmark.run([entrant], trained_on=LEARNT, wanted=METRICS_ASKED)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".partial-{target.name}")
    table.to_parquet(unfinished, index=False)
    unfinished.replace(target)
    mark_done(target, key, {})


def read(path: Path) -> tuple[str, list[Cell]]:
    """The name and the cells of a sweep's .yaml file; docs/sweeps.md says what it may hold.

    Raises:
        FileNotFoundError, ValueError: for whatever is wrong with it, in a sentence that names it.
    """
    given = read_mapping(path, example="notebooks: [04_relevancy_classifiers]")
    try:
        _check_known(given, ("name", "dataset", "profile", "notebooks", "parameters", "benchmark"), "key")
        if not {"notebooks", "benchmark"} & set(given):
            raise ValueError("it asks for nothing: name notebooks, a benchmark, or both")
        if {"profile", "parameters"} & set(given) and "notebooks" not in given:
            raise ValueError("parameters and a profile are of notebooks: name these too")
        name, profile = checked_name(given.get("name", path.stem), name="name"), str(given.get("profile", "standard"))
        datasets = _listed(given.get("dataset", "mnist"), "dataset")
        found = [plan for each in datasets for plan in plans(name, str(each), profile, 0)]
        _listed([plan.dataset for plan in found], "dataset")
        cells = [*_of_notebooks(found, given)] if "notebooks" in given else []
        return name, cells + ([*_of_benchmark(found, given["benchmark"])] if "benchmark" in given else [])
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _of_notebooks(found: Sequence[Plan], given: dict[str, Any]) -> Iterator[Cell]:
    books, chosen = {path.stem: path for path in notebooks()}, _listed(given["notebooks"], "notebooks")
    _check_known(chosen, books, "notebook")
    declared = {stem: declared_parameters(books[stem]) for stem in chosen}
    known = {label: default for each in declared.values() for label, default in each.items()}
    known = {label: default for label, default in known.items() if label not in ("run", "dataset")}
    grid = _grid(given.get("parameters", {}), "parameters", known)
    for label, value in ((label, value) for label, values in grid.items() for value in values):
        if fault := fault_of(value, known[label]):
            raise ValueError(f"{label} must be {fault}, got {value!r}")
        if label == "seed":
            checked_seed(value)
    for plan, stem in itertools.product(found, declared):
        own = {label: values for label, values in grid.items() if label in declared[stem]}
        for values in itertools.product(*own.values()):
            about = dict(zip(own, values, strict=True))
            parameters = plan.parameters | about
            run = f"{plan.run}/{stem[:80]}-{digest(own_parameters(books[stem], parameters))[:10]}"
            made = replace(plan, run=run, parameters=parameters, only=stem)
            ((_, target, _, key),) = made.steps()
            about = {"notebook": stem, "dataset": plan.dataset, **about}
            yield Cell(about=about, do=partial(execute, made), target=target, key=key)


def _of_benchmark(found: Sequence[Plan], given: Any) -> Iterator[Cell]:
    grid = _grid(given, "benchmark", ("detectors", "attacks", "seeds", *SIZES))
    detectors = {each: _code_of(each) for each in grid.get("detectors", DETECTORS)}
    _listed([each.rpartition(":")[2] for each in detectors], "detectors")
    versions = {name: known["version"] for name, known in read_lock().items() if ".studies." not in name}
    files = {plan.dataset: Path(plan.parameters["dataset"]) for plan in found if "dataset" in plan.parameters}
    attacks = tuple(map(str, grid.get("attacks", ())))
    sizes = [grid.get(label, [getattr(Sizes, label)]) for label in SIZES]
    for plan, (*values, seed) in itertools.product(found, itertools.product(*sizes, grid.get("seeds", [0]))):
        named = dict(zip(SIZES, values, strict=True))
        about, file = {"dataset": plan.dataset, **named, "seed": seed}, files.get(plan.dataset)
        setting = Setting(plan.run, str(file or plan.dataset), checked_seed(seed), Sizes(**named), attacks)
        network, crafted = Task(about={"task": "network", **about}, do=partial(prepare, setting)), []
        for title in chosen_settings(plan.dataset, setting.sizes.strengths, attacks):
            do = partial(prepare, setting, title)
            crafted.append(Task(about={"attack": title, **about}, do=do, needs=(network,)))
        for detector, code in detectors.items():
            own = [setting, detector]
            run = f"{plan.run}/{detector.replace(':', '.')[:80]}-{digest(own)[:10]}"
            target = run_folder(run, plan.dataset) / "table.parquet"
            key = digest([own, code, versions, file and file.stat().st_mtime_ns])
            do, needs = partial(judge, setting, detector, target, key), (network, *crafted)
            yield Cell(about={"detector": detector, **about}, do=do, needs=needs, target=target, key=key)


def _code_of(detector: Any) -> str:
    """What the module of a user's detector holds; "" for one of the catalogue."""
    if not isinstance(detector, str) or ":" not in detector:
        _check_known([detector], names(), "detector")
        return ""
    entrants.find(detector)
    return Path(sys.modules[detector.partition(":")[0]].__file__ or "").read_text()


def _grid(given: Any, name: str, known: Collection[str]) -> dict[str, list[Any]]:
    if not isinstance(given, dict):
        raise ValueError(f"{name} must map names to lists of values, got {given!r}")
    _check_known(given, known, f"key of {name}")
    return {label: _listed(values, label) for label, values in given.items()}


def _listed(given: Any, name: str) -> list[Any]:
    """The values of a list, or the only one."""
    values = given if isinstance(given, list) else [given]
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if not values or twice:
        raise ValueError(f"{name} lists {f'{twice[0]!r} twice' if twice else 'no value'}: name each value once")
    return values


def _check_known(given: Iterable[Any], known: Collection[str], what: str) -> None:
    for each in given:
        if each not in list(known):
            raise ValueError(f"no {what} is called {each!r}: known are {', '.join(known)}")
