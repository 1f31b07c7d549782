"""The results page: docs/results.md, made from the published tables under figures/, and nothing else."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from advlens.paths import project_root

PAGE = Path("docs") / "results.md"
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
ROWS = 8  # of a table, at most


@dataclass(frozen=True)
class Section:
    """What the page shows of one study.

    Attributes:
        title, question: its heading, and what was asked.
        table: the published table's name; columns: of it → as the page calls them.
        only: column → the values of the rows that are shown; empty for all.
        figure: the picture's name; notebooks: where it comes from.
        reading: how to read the table.
    """

    title: str
    question: str
    table: str
    columns: dict[str, str]
    figure: str
    notebooks: tuple[str, ...]
    reading: str
    only: tuple[str, tuple[str, ...]] = ("", ())


SECTIONS = (
    Section(
        "Input and relevancy classifiers",
        "Can a small network tell attacked images, or the relevancy maps of decisions on them, from normal ones?",
        "headline",
        {
            **{"attack": "attack", "classifier": "classifier", "published accuracy": "published accuracy"},
            **{"as published, remade": "remade", "corrected ROC-AUC": "corrected ROC-AUC"},
            "its ROC-AUC": "best trivial score, ROC-AUC",
        },
        "04-corrected-auc",
        ("03_explanations", "04_relevancy_classifiers"),
        "*Remade* is accuracy under the study's own protocol; *corrected* is ROC-AUC on other images than were learnt "
        "from, noisy twins among the normal ones. The best trivial score needs no training.",
        ("classifier", ("input", "relevancy, z-rule")),
    ),
    Section(
        "Closeness and uncertainty",
        "Do dropout uncertainty and the closeness of deep features to the training data separate attacks from normal "
        "images?",
        "headline-closeness",
        {
            **{"attack": "attack", "success rate": "success rate", "as published": "as published, ROC-AUC"},
            **{"corrected": "corrected, ROC-AUC", "TPR": "TPR", "FPR on noisy": "FPR on noisy twins"},
        },
        "06-corrected",
        ("05_closeness_and_uncertainty", "06_closeness_and_uncertainty_detectors"),
        "Rows are the logistic regression of all six metrics. The threshold is fixed on clean images at a nominal "
        "false-positive rate of 5 %.",
        ("detector", ("all six",)),
    ),
    Section(
        "Feature responses and local spatial entropy",
        "Is the response of the last convolution more disordered in attacked images?",
        "headline-responses",
        {
            **{"attack": "attack", "success rate": "success rate"},
            **{"entropy: ROC-AUC as published": "as published, ROC-AUC", "corrected": "corrected, ROC-AUC"},
            **{"FPR on noisy": "FPR on noisy twins", "best baseline: ROC-AUC": "best trivial score, ROC-AUC"},
        },
        "08-auc",
        ("07_feature_responses", "08_local_spatial_entropy"),
        "*As published* holds attacks against their own originals; *corrected* adds noisy twins to the normal images.",
    ),
    Section(
        "Deep k-nearest neighbours",
        "Do the training images nearest to an image, layer by layer, support the network's decision?",
        "headline-deep-knn",
        {
            **{"attack": "attack", "success rate": "success rate", "Deep kNN: ROC-AUC": "Deep kNN, ROC-AUC"},
            **{"TPR": "TPR", "FPR on noisy": "FPR on noisy twins", "in 8 bits: Deep kNN": "in 8 bits, ROC-AUC"},
        },
        "09-auc",
        ("09_deep_knn", "10_poisoning", "11_intermediate_level_attacks"),
        "Deep kNN learns from no attack. *In 8 bits* the attacked images are rounded to the levels that a file keeps.",
    ),
    Section(
        "Type I attacks and class activation maps",
        "Does a map reveal an attack that changes the image and not the decision?",
        "headline-type-one",
        {
            **{"map": "map", "Type I": "Type I", "Type II": "Type II"},
            "transition that loses the decision": "transition that loses the decision",
            "the same class explained in both": "Type I minus transition, same class explained",
        },
        "12-likeness",
        ("12_type_one_attacks",),
        "Numbers are shares of images whose map stays nearer to the original's than to that of the class reached.",
    ),
)


def results_page() -> str:
    """The page's text, from the published tables.

    Raises:
        FileNotFoundError: where a published table is missing.
    """
    parts = [
        "# Results",
        "",
        "Made by `advlens results` from the tables under `figures/`, which a published run wrote; a test checks that "
        "they agree. The published run is of version 0.1.0: one training of each detector, floats unless said "
        "otherwise, and percentile intervals over images (in brackets), too narrow near 0 and 1. Later code follows "
        "[the protocol](protocol.md); see also [what is not known](limitations.md).",
    ]
    for section in SECTIONS:
        links = ", ".join(f"[{name}](../notebooks/{name}.ipynb)" for name in section.notebooks)
        parts += ["", f"## {section.title}", "", f"{section.question} {section.reading} From {links}.", ""]
        picture = Path("figures") / "mnist" / f"{section.figure}.png"
        if (project_root() / picture).exists():
            parts += [f"![{section.title}, MNIST](../{picture.as_posix()})", ""]
        for folder, title in DATASETS.items():
            path = project_root() / "figures" / folder / f"{section.table}.csv"
            parts += [f"**{title}**", "", _table(path, section), ""]
    return "\n".join(parts).rstrip() + "\n"


def _table(path: Path, section: Section) -> str:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    column, values = section.only
    if column:
        table = table[table[column].isin(values)]
    shown = table[list(section.columns)].rename(columns=section.columns).head(ROWS)
    return shown.to_markdown(index=False, disable_numparse=True)


def write_results() -> Path:
    """Writes the page, and says where."""
    path = project_root() / PAGE
    path.write_text(results_page())
    return path
