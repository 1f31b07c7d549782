"""The console command `advlens`, behind the Makefile; nothing is computed here."""

import contextlib
import itertools
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advlens.paths import check_new, explained, run_folder

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from advlens.classifier import Classifier
    from advlens.given_images import GivenImages
    from advlens.guard import Guard
    from advlens.suite import Suite

ABOUT = "Is one of these images attacked? See fit, screen and evaluate; the other commands run Advlens' studies."
FIRST = ("fit", "screen", "evaluate")  # in the list of commands
app = typer.Typer(no_args_is_help=True, add_completion=False, help=ABOUT)
store = typer.Typer(no_args_is_help=True, help="Look into a run's artifacts.")
app.add_typer(store, name="store")

STOPPED, TERMINATED = 130, 143  # the exit codes of a Ctrl-C, which typer returns, and of SIGTERM

Run = Annotated[str, typer.Option(help="The run's name: its results lie in data/runs/<run>/<dataset>.")]
Profile = Annotated[str, typer.Option(help="smoke, standard, full, or the path of a .yaml of your own.")]
Dataset = Annotated[str, typer.Option(help="mnist, fashion_mnist, all, or the path of an .npz.")]
Seed = Annotated[str, typer.Option(help="Governs all randomness.")]
Images = Annotated[int, typer.Option(help="Attacked images a set, of which a fifth is judged.")]
Strengths = Annotated[int, typer.Option(help="Strengths or margins an attack, 1 to 3.")]
Seeds = Annotated[int, typer.Option(help="How many times each head is trained.")]
Attacks = Annotated[str, typer.Option(help="Only these of the suite's attacks, as fgsm,deepfool.")]
TrainImages = Annotated[int, typer.Option(help="Training images; as many as the standard run's, 0 for all.")]
TRAIN_IMAGES = 20000
TrustModule = Annotated[
    str, typer.Option(help="Modules, as my_layers, whose classes and functions the network's file may hold: they run.")
]
TrustLambda = Annotated[
    bool, typer.Option("--trust-lambda", help="Open a network's file whose Lambdas hold code, which then runs.")
]
RANGE = (
    "--input-range takes two numbers, black and white, as --input-range 0 255, or of each one a channel: "
    "--input-range -103.9,-116.8,-123.7 151.1,138.2,131.3"
)


@contextlib.contextmanager
def _bad_input() -> Iterator[None]:
    """What is wrong with what the user gave ends with exit code 2."""
    try:
        yield
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        raise typer.TyperException(getattr(error, "on_command_line", str(error))) from error


def _range(given: tuple[str, str] | None) -> tuple[list[float], list[float]] | None:
    """What a network takes for black and for white, numbers of one channel or of each."""
    try:
        return given and tuple([float(number) for number in end.split(",")] for end in given)  # pyright: ignore
    except ValueError as error:
        raise typer.BadParameter(RANGE) from error


@app.command()
def run(
    profile: Profile = "standard",
    dataset: Dataset = "mnist",
    run: Run = "standard",
    seed: Seed = "0",
    lanes: Annotated[int, typer.Option(min=0, help="Notebooks at a time; 0 for 1 or 2, as this machine allows.")] = 0,
) -> None:
    """Execute the notebooks, skipping what is done, and print where the results are, and the headline tables."""
    from advlens import runs
    from advlens.lanes import lanes_here

    terminal = sys.stderr.isatty()
    os.environ.setdefault("ADVLENS_PROGRESS", os.ttyname(sys.stderr.fileno()) if terminal else "off")
    chosen = list(runs.plans(run, dataset, profile, _seed(seed)))
    for plan in chosen:
        runs.execute(plan, lanes=lanes or lanes_here())
    for plan in chosen:
        runs.report(plan)
    if profile == "smoke":
        print("These are the smoke sizes: every cell runs, and no number means anything.")


@app.command(hidden=True)
def step(parent: int) -> None:
    """Execute the notebook that a run in another process asks for."""
    import json

    from advlens.lanes import end_with
    from advlens.runs import do_step

    end_with(parent)
    notebook, target, parameters, key = json.load(sys.stdin)
    do_step(Path(notebook), Path(target), parameters, key)


@app.command()
def publish(profile: Profile = "full", run: Run = "full", seed: Seed = "0") -> None:
    """Copy a finished run's outputs and figures into notebooks/ and figures/."""
    from advlens.publishing import publish as copy

    copy(run, profile=profile, seed=_seed(seed))


@app.command()
def baselines() -> None:
    """Remake the regression baselines in tests/notebooks."""
    from advlens.publishing import make_baselines

    make_baselines()


@app.command()
def results() -> None:
    """Make docs/results.md and the README's table of verdicts anew from the published tables."""
    from advlens.results import write_results

    for path in write_results():
        print(path)


@app.command()
def benchmark(
    dataset: Dataset = "mnist",
    run: Run = "standard",
    seed: Seed = "0",
    images: Images = 300,
    strengths: Strengths = 1,
    seeds: Seeds = 3,
    attacks: Attacks = "",
    train_images: TrainImages = TRAIN_IMAGES,
) -> None:
    """Put every detector against every attack; what is done already is read from the run's store.

    With --dataset all, heads that learnt on one data set judge the attacks on the other, too.
    """
    from advlens.datasets import data_sets

    about = {"images": images, "strengths": strengths, "seeds": seeds, "attacks": attacks, "train_images": train_images}
    made = []
    for name in data_sets(dataset):
        made.append(_suite(name, run, seed, **about))
        print(made[-1].write())
    for here, other in itertools.permutations(made, 2):
        print(here.write_transferred(other))


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="A .yaml; docs/sweeps.md says what it holds.")],
    workers: Annotated[int, typer.Option(min=0, help="Processes of this machine; 0 for one for two cores.")] = 0,
    scheduler: Annotated[str, typer.Option(help="A Dask scheduler's address instead, as tcp://host:8786.")] = "",
    retries: Annotated[int, typer.Option(min=0, help="How often a cell that fails is tried again.")] = 1,
) -> int:
    """Do a grid of notebooks, or of the benchmark, on many processes or machines; what is done is skipped.

    Example: advlens sweep grid.yaml --workers 2

    Exit codes: 0 all is done, 1 some cells failed, 2 bad input.
    """
    with _bad_input():
        from advlens.sweep_plan import read

        name, cells = read(config)
    try:
        from advlens.sweep import run as run_cells
    except ModuleNotFoundError as error:
        raise RuntimeError(f"sweeps need {error.name}: pip install dask distributed") from error
    table = run_cells(name, cells, workers=workers, scheduler=scheduler, retries=retries)
    return int((table["state"] == "failed").any())


@app.command()
def fit(
    model: Annotated[Path, typer.Option(help="The network, a .keras file.")],
    train: Annotated[str, typer.Option(help="Its training images: an .npz with x and y, a folder, or mnist.")],
    out: Annotated[Path, typer.Option(help="The new folder that the guard is written to.")] = Path("guard"),
    clean: Annotated[str, typer.Option(help="Images that the network has not learnt from, to calibrate on.")] = "",
    input_range: Annotated[
        tuple[str, str] | None,
        typer.Option(
            callback=_range,
            metavar="BLACK WHITE",
            help="What the network takes for black and white, as --input-range 0 255, or, with commas, one number a "
            "channel; 0 1 unless given. The images stay as they are.",
        ),
    ] = None,
    bgr: Annotated[
        bool, typer.Option("--bgr", help="The network takes blue first; one number a channel, too.")
    ] = False,
    passes: Annotated[int, typer.Option(min=1, help="Of a network that is random: how many passes are averaged.")] = 1,
    fpr: Annotated[float, typer.Option(help="The share of clean images that may be flagged.")] = 0.05,
    lenses: Annotated[str, typer.Option(help="Only these, as energy,deep_knn.")] = "",
    trust_module: TrustModule = "",
    trust_lambda: TrustLambda = False,
    seed: Seed = "0",
    as_json: Annotated[bool, typer.Option("--json", help="Print the guard's card, its card.json, as JSON.")] = False,
) -> None:
    """Fit a guard to a network and clean images: lenses, their scores on clean images, and thresholds.

    Example: advlens fit --model mine.keras --train train.npz --clean held_out.npz --out guard

    A ResNet50 of keras.applications: --bgr --input-range -103.939,-116.779,-123.68 151.061,138.221,131.32

    Exit codes: 0 done, 2 bad input.
    """
    import json

    if as_json:
        os.environ["ADVLENS_PROGRESS"] = "off"
    with _bad_input():
        from advlens import guard
        from advlens.classifier import Classifier

        check_new(out, how=" with --out")
        network = _network(model, trust_module, trust_lambda)
        classifier = Classifier(network, input_range=input_range, bgr=bgr, passes=passes)  # pyright: ignore
        given = _images(train, classifier, part="train")
        if given.labels is None:
            warnings.warn(f"{given.why_no_labels}; the classes that the network predicts are taken", stacklevel=2)
        about = {"clean": _images(clean, classifier).images if clean else None, "class_names": given.class_names}
        about |= {"lenses": lenses.split(",") if lenses else guard.LENSES, "fpr": fpr, "seed": _seed(seed)}
        made = guard.fit(classifier, given.images, given.labels, **about)
        made.save(out)
    if as_json:
        return print(json.dumps(made.card, ensure_ascii=False))
    print(made.describe())
    print(f"Written to {out}. Next: advlens screen {out} IMAGES")


@app.command()
def screen(
    guard: Annotated[Path, typer.Argument(help="The folder that `advlens fit` made.")],
    images: Annotated[str, typer.Argument(help="A PNG, JPEG or WebP file, a folder of them, or an .npz with x.")],
    out: Annotated[Path | None, typer.Option(help="New folder of the report and tables; by default report.")] = None,
    fpr: Annotated[float | None, typer.Option(help="By default the one that the guard was fitted for.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; write files only where --out is given.")] = False,
    trust_module: TrustModule = "",
    trust_lambda: TrustLambda = False,
) -> int:
    """Let a guard judge images: a verdict on each, as CSV, Parquet and an HTML report, flagged images first.

    Example: advlens screen guard new_images/ --out report

    Example: advlens screen guard new.npz --fpr 0.01 --json | jq '.rows[] | select(.flagged) | .image'

    Exit codes: 0 nothing is flagged, 3 something is, 2 bad input.
    """
    import json

    if as_json:
        os.environ["ADVLENS_PROGRESS"] = "off"
    with _bad_input():
        from advlens.guard import is_guard
        from advlens.report import count_broken, in_words, write_report

        if is_guard(images) and not is_guard(guard):
            raise ValueError(f"the guard comes first, then the images: advlens screen {images} {guard}")
        folder = out or (None if as_json else Path("report"))
        if folder:
            check_new(folder, how=" with --out")
        found = _guard(guard, trust_module, trust_lambda)
        given = _images(images, found.classifier)
        rate = found.card["fpr"] if fpr is None else fpr
        table = found.screen(given.images, fpr=rate, image_names=given.names)
    flagged = int(table["flagged"].sum())
    page = folder and write_report(found, given.images, table, folder, fpr=rate, changes=given.changes)
    if as_json:
        told = {"images": len(table), "flagged": flagged, "fpr": rate, "expected_false_flags": len(table) * rate}
        told |= {"broken_scores": count_broken(table)}
        print(json.dumps(told | {"rows": json.loads(table.to_json(orient="records"))}))
    else:
        print(in_words(table, fpr=rate))
        print(page)
    return 3 if flagged else 0


@app.command()
@_bad_input()
def evaluate(
    detector: Annotated[str, typer.Argument(help="As my_module:MyDetector, or the folder of a guard.")],
    dataset: Dataset = "mnist",
    run: Run = "standard",
    seed: Seed = "0",
    images: Images = 300,
    strengths: Strengths = 1,
    seeds: Seeds = 3,
    attacks: Attacks = "",
    train_images: TrainImages = TRAIN_IMAGES,
    entry: Annotated[Path | None, typer.Option(help="Where to write the leaderboard's entry, a .json.")] = None,
    by: Annotated[str, typer.Option(help="Who measured it, for the entry.")] = "its author",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the rows as JSON, and what else is said as errors.")
    ] = False,
    trust_module: TrustModule = "",
    trust_lambda: TrustLambda = False,
) -> None:
    """Put a detector of your own against the suite's attacks, the worst first; or a guard, on its own network.

    Example: advlens evaluate my_module:MyDetector --dataset mnist --attacks fgsm,deepfool

    Example: advlens evaluate guard --dataset test/ --attacks fgsm,pgd

    Exit codes: 0 done, 2 bad input.
    """
    if Path(detector).is_dir():
        about = {"images": images, "seeds": seeds, "seed": _seed(seed), "as_json": as_json}
        return _evaluate_guard(_guard(Path(detector), trust_module, trust_lambda), dataset, attacks, **about)
    from advlens import entrants
    from advlens.benchmark import worst_first
    from advlens.benchmark.table import doubts
    from advlens.entries import entry_of, write_entry

    if entry:
        entry.parent.mkdir(parents=True, exist_ok=True)  # what is wrong with it is said before work starts
    found = entrants.find(detector)
    sizes = {"images": images, "strengths": strengths, "seeds": seeds, "attacks": attacks, "train_images": train_images}
    made = _suite(dataset, run, seed, **sizes)
    entrant = entrants.make(found, made.classifier, *made.bench.training, name=detector.partition(":")[2])
    table, alarms = made.evaluate(entrant)
    shown = worst_first(table, entrant.name, unchanged=made.unchanged)
    _print_rows(shown, as_json)
    if doubt := doubts(table, entrant.name):
        typer.echo(doubt, err=as_json)
    if entry:
        about = {"dataset": made.bench.data.name, "settings": made.about, "measured_by": by}
        about |= {"margins": made.margins, "unchanged": made.unchanged}
        about |= {"seconds": {entrant.name: made.cost(entrant.lens)}}
        told = entry_of(entrant.name, table, alarms, **about)
        if few := sorted({*shown["attack"]} - {row["attack"] for row in told["results"]}):
            typer.echo(f"Not in the entry, since too few of their successes are judged: {', '.join(few)}.", err=as_json)
        typer.echo(write_entry(told, entry), err=as_json)


def _print_rows(shown: "pd.DataFrame", as_json: bool) -> None:
    print(shown.to_json(orient="records") if as_json else shown.round(3).to_markdown(index=False))


def _evaluate_guard(
    guard: "Guard", dataset: str, attacks: str, *, images: int, seeds: int, seed: int, as_json: bool
) -> None:
    """A guard against attacks on its own network, the worst first."""
    from advlens.benchmark import evaluate, worst_first
    from advlens.report import attacks_in_words

    given = _images(dataset, guard.classifier)
    if given.labels is None:
        remedy = "by labels attacks are judged: name a folder with a folder a class, or an .npz with x and y"
        raise ValueError(f"{given.why_no_labels}, and {remedy}")
    table = evaluate(
        {"guard": guard},
        guard.classifier,
        given.images,
        given.labels,
        _names(attacks) or ["fgsm", "pgd", "deepfool"],
        attacked_images=images,
        n_seeds=seeds,
        seed=seed,
    )
    shown = worst_first(table, "guard")
    strengths = {str(attack): strength for attack, strength in table.set_index("attack")["strength"].items()}
    typer.echo(attacks_in_words(shown, strengths), err=as_json)
    _print_rows(shown, as_json)


@app.command()
def rescore(
    file: Annotated[Path, typer.Argument(help="An .npz with x, the attacked images, and source, their places.")],
    dataset: Dataset = "mnist",
    run: Run = "standard",
    seed: Seed = "0",
    images: Images = 300,
    strengths: Strengths = 1,
    seeds: Seeds = 3,
    attacks: Attacks = "",
    train_images: TrainImages = TRAIN_IMAGES,
    add: Annotated[bool, typer.Option("--add", help="Add the attack to the run's leaderboard entries.")] = False,
) -> None:
    """Let the detectors of a run's benchmark judge images that you attacked; give the sizes of that benchmark.

    Example: advlens rescore mine.npz --attacks fgsm,deepfool --add
    """
    from advlens.benchmark import TrainedOn
    from advlens.benchmark import leaderboard as ranked
    from advlens.datasets import read_npz

    arrays = read_npz(file)
    if missing := sorted({"x", "source"} - set(arrays)):
        raise ValueError(f"{file.name} lacks {', '.join(missing)}: it holds {', '.join(arrays) or 'nothing'}")
    sizes = {"images": images, "strengths": strengths, "seeds": seeds, "attacks": attacks, "train_images": train_images}
    made = _suite(dataset, run, seed, **sizes)
    table = made.rescore(file.stem, arrays["x"], arrays["source"])
    once = table[table["trained_on"] != TrainedOn.OTHER_ATTACKS.value]  # the same as without its family: it has none
    print(ranked(once).round(3).to_markdown(index=False))
    if add:
        print(made.add(table))


@app.command()
def leaderboard(dataset: Dataset = "", run: Run = "standard") -> None:
    """Make docs/leaderboard/index.html anew, with the entries of a run's benchmark where a data set is named."""
    import shutil

    from advlens.datasets import data_sets
    from advlens.entries import FOLDER, write_page
    from advlens.paths import project_root

    for name in data_sets(dataset) if dataset else ():
        made = _artifacts(run, name).parent / "benchmark" / "entries"
        if not made.is_dir():
            raise FileNotFoundError(f"{made} is no folder: run `advlens benchmark --dataset {name} --run {run}` first")
        shutil.copytree(made, project_root() / FOLDER / "entries", dirs_exist_ok=True)
    print(write_page())


@app.command()
def data(names: Annotated[list[str], typer.Argument(help="mnist, fashion_mnist")]) -> None:
    """Fetch and verify data sets."""
    from advlens.datasets import fetch

    for name in names:
        print(fetch(name))


@app.command()
def attacks() -> None:
    """List the attacks by name."""
    from advlens.attacks import CATALOGUE

    for name, entry in CATALOGUE.items():
        about = (f"{key}={_plain(value)}" for key, value in entry.parameters.items())
        print(f"{name:16} {entry.attack.__name__:32} {', '.join(about)}")


@store.command("ls")
def list_store(run: Run = "standard", dataset: Dataset = "mnist") -> None:
    """List a run's artifacts: name, size, seconds, maker and version."""
    from advlens.store.store import list_artifacts

    for row in list_artifacts(_artifacts(run, dataset)):
        told = row.get("error") or f"{row['seconds']:9.1f} s  {row['made_by']} v{row['version']}"
        print(f"{row['folder']:48} {row['bytes'] / 1e6:9.2f} MB {told}")


@store.command()
def why(name: str, run: Run = "standard", dataset: Dataset = "mnist") -> None:
    """Say in what the artifacts of a name differ."""
    from advlens.store.store import explain_artifacts

    for line in explain_artifacts(_artifacts(run, dataset), name):
        print(line)


@store.command()
def gc(run: Run = "standard", dataset: Dataset = "mnist", dry: bool = False) -> None:
    """Remove artifacts that nothing can find again: of makers or versions that are no more, and damaged ones."""
    from advlens.store.store import collect_garbage

    for name in collect_garbage(_artifacts(run, dataset), dry=dry):
        print(f"{'would remove' if dry else 'removed'} {name}")


@store.command()
def lock() -> None:
    """Refresh artifacts.lock, where versions were bumped or the results were shown to be the same."""
    from advlens.store.makers import write_lock

    write_lock()


def _network(path: Path, trust_module: str, trust_lambda: bool) -> "keras.Model":
    """The network in a file, which may hold what the user trusts."""
    from advlens.networks.files import open_network

    if trust_module:
        from advlens.own_modules import trust  # which loads the benchmark

        for module in trust_module.split(","):
            trust(module)
    return open_network(path, trust_lambda=trust_lambda)


def _guard(folder: Path, trust_module: str, trust_lambda: bool) -> "Guard":
    """The guard in a folder, whose network's file may hold what the user trusts."""
    from advlens.guard import NETWORK, Guard, is_guard

    is_trusted = bool(trust_module or trust_lambda) and is_guard(folder)
    return Guard.load(folder, network=_network(folder / NETWORK, trust_module, trust_lambda) if is_trusted else None)


def _images(given: str, classifier: "Classifier", *, part: str = "test") -> "GivenImages":
    from advlens.given_images import read_images

    return read_images(given, shape=classifier.input_shape, num_classes=classifier.nb_classes, part=part)


def _suite(
    dataset: str, run: str, seed: str, *, images: int, strengths: int, seeds: int, attacks: str, train_images: int
) -> "Suite":
    from advlens.suite import Sizes, Suite
    from advlens.workbench import Workbench

    sizes = Sizes(images=images, strengths=strengths, training_seeds=seeds)
    bench = Workbench(run=run, dataset=dataset, seed=_seed(seed), train_images=train_images)
    return Suite(bench, sizes, attacks=_names(attacks))


def _names(text: str) -> list[str]:
    """Attacks, in small letters where the catalogue has them so."""
    from advlens.attacks import CATALOGUE

    return [name.lower() if name.lower() in CATALOGUE else name for name in text.split(",") if name]


def _artifacts(run: str, dataset: str) -> Path:
    folder = run_folder(run, Path(dataset).stem) / "artifacts"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name a run and a data set that were run")
    return folder


def _plain(value: object) -> str:
    """A radius of the 1/255 grid as a fraction."""
    levels = 255 * value if isinstance(value, float) else 0
    return f"{round(levels)}/255" if levels and abs(levels - round(levels)) < 1e-6 and value < 1 else str(value)  # pyright: ignore


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"SEED must be a whole number from 0 to 2^32 - 1, got {text!r}")
    return int(text)


app.registered_commands.sort(key=lambda each: getattr(each.callback, "__name__", "") not in FIRST)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; whatever is wrong is said in one sentence. Returns the shell's exit code."""
    from advlens.runs import Stopped, sigterm_as_exit

    try:
        with sigterm_as_exit():
            code = app(arguments, standalone_mode=False)
    except typer.Exit as done:
        code = done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = STOPPED
    except SystemExit:  # of SIGTERM: no command raises one
        code = TERMINATED
    except Stopped as stopped:
        print(f"advlens: {stopped}", file=sys.stderr)
        return stopped.code
    except OSError as error:
        told = explained(error)
        named = str(told) if told.filename else told.strerror or str(told)
        print(f"advlens: {named}", file=sys.stderr)
        return 1
    except typer.TyperException as error:  # a wrong option
        told = error.format_message()
        print(f"advlens: {RANGE if re.match('(Option|Invalid).*--input-range', told) else told}", file=sys.stderr)
        return 2
    except (ValueError, RuntimeError, ImportError) as error:  # of an attack that needs a package, too
        print(f"advlens: {error}", file=sys.stderr)
        return 1
    if code in (STOPPED, TERMINATED):
        print("advlens: stopped; run the same command to go on", file=sys.stderr)
    return code or 0


def console() -> None:
    """The entry point of the command `advlens`; a warning is a line of its own, without the code that gave it."""
    warnings.formatwarning = lambda message, *_, **__: f"advlens: {message}\n"
    sys.exit(main())


if __name__ == "__main__":
    console()
