"""The results page: docs/results.md, made from the published tables under figures/, and nothing else."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from advlens.paths import project_root
from advlens.plots import title_of
from advlens.verdicts import README, readme

PAGE = Path("docs") / "results.md"
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
ROWS = 8  # of a table, at most


@dataclass(frozen=True)
class Section:
    """What the page shows of one study.

    Attributes:
        title, question: its heading, and what was asked.
        table: the published table's name; figure: the picture's, if any; notebooks: where they come from.
        reading: how to read the table.
    """

    title: str
    question: str
    table: str
    figure: str
    notebooks: tuple[str, ...]
    reading: str


SECTIONS = (
    Section(
        "The benchmark",
        "Which detector catches attacks of families that it did not learn from?",
        "headline-benchmark",
        "13-worst",
        ("13_benchmark",),
        "The attack that is caught least, the mean over attacks, on how many attacks the rate is above the best "
        "trivial score's, and the normal images that are flagged most often. TPR at 5 % FPR.",
    ),
    Section(
        "Heads from another data set",
        "Does a detector that learnt from attacks on one data set catch the attacks on another?",
        "headline-transfer",
        "",
        (),
        "The mean TPR at 5 % FPR over attacks; lenses are fitted here, heads here or there. *All shared lenses* are "
        "those that measure the same columns on both. Made by `advlens benchmark --dataset all`; in no notebook.",
    ),
    Section(
        "Attackers who know the detector",
        "Does a detector still flag attacks, where the attacker knows it and lowers its score?",
        "headline-adaptive",
        "14-knowing",
        ("14_adaptive_attackers",),
        "Of the attacks that succeed in the middle L∞ ball, the share flagged at 5 % FPR; the smallest balls in which "
        "half of all images evade; and the accuracy within half the radius that this rate would imply (Tramèr 2022). "
        "Where a check of the attack's strength fails (`14-strength.md` beside the figures) the detector may be weaker "
        "than it looks.",
    ),
    Section(
        "Input and relevancy classifiers",
        "Can a small network separate attacked images, or the relevancy maps of decisions on them, from normal ones?",
        "headline",
        "04-auc",
        ("03_explanations", "04_relevancy_classifiers"),
        "*Clean sources* is the control: the same detector on the attacked images before the attack, 0.5 where a "
        "number is about the attack alone. The last columns are the TPR at 5 % FPR minus the best trivial score's: for "
        "attacks that stop at the decision boundary, and for those that go on to a logit margin.",
    ),
    Section(
        "Closeness and uncertainty",
        "Do dropout uncertainty and the closeness of deep features to the training data separate attacks from normal "
        "images?",
        "headline-closeness",
        "06-auc",
        ("05_closeness_and_uncertainty", "06_closeness_and_uncertainty_detectors"),
        "Rows are the logistic regression of all six metrics: ROC-AUC as the study judged, and corrected.",
    ),
    Section(
        "Feature responses and local spatial entropy",
        "Is the response of the last convolution more disordered in attacked images?",
        "headline-responses",
        "08-auc",
        ("07_feature_responses", "08_local_spatial_entropy"),
        "Before the slash the published rates (ImageNet), after it the remade ones, against clean originals; then the "
        "TPR at a threshold fixed on clean images, the shares of clean and noisy images that it flags, and the AUC of "
        "the best setting against clean and noisy images.",
    ),
    Section(
        "Deep k-nearest neighbours",
        "Do the training images nearest to an image, layer by layer, agree on one label?",
        "headline-deep-knn",
        "09-auc",
        ("09_deep_knn", "10_poisoning", "11_intermediate_level_attacks"),
        "Deep kNN learns from no attack. The words compare its ROC-AUC with the best trivial score's.",
    ),
    Section(
        "Type I attacks and class activation maps",
        "Does a map reveal an attack that changes the image and not the decision?",
        "headline-type-one",
        "12-likeness",
        ("12_type_one_attacks",),
        "Each cell says how much more often a map stays near to the original's after a Type I attack than in the "
        "control, paired, with its 95 % interval.",
    ),
)


def results_page() -> str:
    """The page's text, from the published tables; a data set that lacks one is said to be not run yet."""
    parts = [
        "# Results",
        "",
        "Made by `advlens results` from the tables under `figures/`, which a published run wrote; a test checks that "
        "they agree. Numbers are on 8-bit images unless said otherwise, after "
        "[the protocol](protocol.md), and brackets hold 95 % intervals; see also [what is not known](limitations.md).",
    ]
    for section in SECTIONS:
        links = ", ".join(f"[{name}](../notebooks/{name}.ipynb)" for name in section.notebooks)
        source = f" From {links}." if links else ""
        parts += ["", f"## {section.title}", "", f"{section.question} {section.reading}{source}", ""]
        picture = Path("figures") / "mnist" / f"{section.figure}.png"
        if (project_root() / picture).exists():
            parts += [f"![{section.title}, MNIST](../{picture.as_posix()})", ""]
        for folder, title in DATASETS.items():
            published = project_root() / "figures" / folder
            if published.is_dir():
                path = published / f"{section.table}.csv"
                parts += [f"**{title}**", "", _table(path) if path.exists() else "Not run in `full` yet.", ""]
    return "\n".join(parts).rstrip() + "\n"


def _table(path: Path) -> str:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "detector" in table:
        table["detector"] = table["detector"].map(title_of)
    shown = table.head(ROWS).to_markdown(index=False, disable_numparse=True)
    where = path.relative_to(project_root()).as_posix()
    return shown if len(table) <= ROWS else f"{shown}\n\n{ROWS} of {len(table)} rows; all are in `{where}`."


def write_results() -> list[Path]:
    """Writes the page, and the README's table of verdicts, and says where."""
    made = {project_root() / PAGE: results_page(), project_root() / README: readme()}
    for path, text in made.items():
        path.write_text(text)
    return list(made)
