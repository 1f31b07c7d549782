"""The explorer: one image, attacked as strongly as you like, and what each lens of a guard says of it.

`look` computes what is shown, `page` writes it as HTML, and `Explorer` is the widgets over both.
"""

import dataclasses
import functools
import html
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.attacks import craft
from advlens.explanations import explain
from advlens.guard import FUSED, Guard
from advlens.image_files import through
from advlens.plots import ROLE_COLOURS, title_of
from advlens.progress import hidden
from advlens.report import MARGIN, WIDTH, data_uri, in_colours, place, strip
from advlens.templates import rendered

KINDS = {"clean": "clean", "noisy": "noisy", "attacked": "adversarial"}  # → the role of `ROLE_COLOURS`
MAPS = ("deep_taylor", "guided_backprop", "grad_cam")  # of the native engine, which compiles each once
NEAREST = 5
OPENING = "<p>Opening it. The first time a network may be trained and a guard fitted: a minute or two.</p>"

EPSILON = "eps", 1 / 255, {"description": "ε × 255", "max": 128, "min": 1, "step": 1, "value": 51}
LENGTH = "eps", 1, {"description": "L2 length", "max": 8, "min": 0.25, "step": 0.25, "value": 2}
LEAD = "margin", 1, {"description": "logit margin", "max": 10, "min": 0.25, "step": 0.25, "value": 0.25}
ATTACKS: dict[str, tuple[str, float, dict[str, Any]]] = {
    **{"pgd": EPSILON, "fgsm": EPSILON, "bim": EPSILON, "pgd_l2": LENGTH, "deepfool": LEAD, "ddn": LEAD}
}
"""Attacks that take less than a second for an image → the parameter of their strength, its unit, and its slider."""


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What is shown of one image.

    Attributes:
        images: (3, h, w, channels) in [0, 1], the `KINDS`, as 8-bit files hold them.
        maps: method → (3, h, w, channels), signed; verdicts: what `Guard.screen` says of the three.
        lenses: a row a lens, and one for all together: their scores by kind, and the threshold.
        nearest: (3, k, h, w, channels) training images and their (3, k) classes.
        notes: what was said on the way; seconds: how long it took.
    """

    images: Array
    maps: dict[str, Array]
    verdicts: pd.DataFrame
    lenses: pd.DataFrame
    nearest: tuple[Array, Array]
    notes: list[str]
    seconds: float


def look(guard: Guard, image: Array, label: int, *, attack: str = "pgd", strength: float | None = None) -> View:
    """Attacks one image and asks the guard about it.

    Args:
        image: (h, w, 1 or 3) in [0, 1], which the guard's network classifies correctly as `label`.
        attack: one of `ATTACKS`; strength: in its units, by default where its slider starts.
    Raises:
        ValueError: for an image that is misclassified as it is, or a strength that the attack does not take.
    """
    started, maps, refused = time.perf_counter(), {}, []
    parameter, unit, slider = ATTACKS[attack]
    chosen: dict[str, Any] = {parameter: unit * (slider["value"] if strength is None else strength)}
    with warnings.catch_warnings(record=True) as said, hidden():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        made = craft(attack, guard.classifier, image[None], np.array([label]), **chosen)
        images = through("8-bit", np.concatenate([made.clean, made.noisy, made.adversarial]))
        verdicts = guard.screen(images, image_names=list(KINDS))
        for method in MAPS:
            try:
                maps[method] = explain(guard.classifier, images, method=method, engine="native")
            except ValueError as error:  # the network has layers that it does not take
                refused.append(f"No map by {method}: {error}")
    scores = verdicts[[*(f"{name} score" for name in guard.calibration), "score"]].set_axis(list(KINDS)).T
    lenses = scores.set_axis([*guard.calibration, FUSED])
    lenses["threshold"] = [row["threshold"] for row in guard.card["verdicts"]]
    notes = list(dict.fromkeys([*(str(each.message) for each in said), *refused]))
    nearest = guard.nearest(images, n=NEAREST)
    return View(images, maps, verdicts, lenses, nearest, notes, seconds=time.perf_counter() - started)


def page(guard: Guard, view: View, *, title: str, class_names: Sequence[str]) -> str:
    """The view as HTML."""
    strips = {name: strip(scores.to_numpy()) for name, scores in guard.clean_scores.items()}
    rows = {"image": view.images, "change": in_colours(view.images - view.images[0])}
    rows |= {method.replace("_", " "): in_colours(maps) for method, maps in view.maps.items()}
    functions = {"place": place, "picture": data_uri, "zip": zip}
    drawing = {"strips": strips, "width": WIDTH, "margin": MARGIN, "kinds": KINDS, "colours": ROLE_COLOURS}
    verdicts, lenses = view.verdicts.to_dict("records"), view.lenses.T.to_dict()
    about = {"title": title, "view": view, "card": guard.card, "names": class_names, **functions, **drawing}
    return rendered("explorer.html", rows=rows, verdicts=verdicts, lenses=lenses, **about)


class Explorer(widgets.VBox):
    """Choose a data set, an image, an attack and its strength: whenever one changes, all is drawn anew.

    Args:
        sources: title → what opens a guard, (n, h, w, 1 or 3) images, (n,) labels and the classes' names; it is called
            when its title is first chosen. Images that the guard's network misclassifies can't be chosen.
    """

    def __init__(self, sources: Mapping[str, Callable[[], tuple[Guard, Array, Array, Sequence[str]]]]) -> None:
        self._sources = {title: functools.cache(source) for title, source in sources.items()}
        self.dataset: Any = widgets.Dropdown(options=list(sources), description="data set")
        self.label: Any = widgets.Dropdown(description="class")
        self.number: Any = widgets.IntSlider(description="image", continuous_update=False)
        self.attack: Any = widgets.Dropdown(options=[(title_of(name), name) for name in ATTACKS], description="attack")
        self.strength: Any = widgets.FloatSlider(continuous_update=False)
        self.page = widgets.HTML()
        choices = [self.dataset, self.label, self.number, self.attack, self.strength]
        super().__init__([widgets.HBox(choices, layout={"flex_flow": "wrap"}), self.page])
        for each in choices:
            each.observe(self._draw, "value")
        self._open_title, self._is_drawing = None, False
        self._draw({"owner": self.attack})

    def _draw(self, change: dict) -> None:
        if self._is_drawing:  # one choice sets another
            return
        self._is_drawing = True
        try:
            if change["owner"] is self.attack:
                for trait, value in ATTACKS[self.attack.value][2].items():
                    self.strength.set_trait(trait, value)
            if self.dataset.value != self._open_title:
                self.page.value = OPENING
                self._open(self.dataset.value)
            rows = self._rows[self.label.value]
            self.number.max = len(rows) - 1
            image, attack, strength = self._images[rows[self.number.value]], self.attack.value, self.strength.value
            view = look(self._guard, image, self.label.value, attack=attack, strength=strength)
            title = f"{self.attack.label}, {self.strength.description} = {strength:g}"
            self.page.value = page(self._guard, view, title=title, class_names=self._names)
        except (ValueError, OSError, RuntimeError) as error:
            self.page.value = f"<p><b>{html.escape(str(error))}</b></p>"
        finally:
            self._is_drawing = False

    def _open(self, title: str) -> None:
        """Takes over a guard and, by class, the images that its network classifies correctly."""
        guard, images, labels, names = self._sources[title]()
        correct = guard.classifier.predict(images).argmax(axis=1) == labels
        if not correct.any():
            raise ValueError(f"the network misclassifies all {len(labels)} images of {title}: none is left to attack")
        rows = {label: np.flatnonzero(correct & (labels == label)) for label in np.unique(labels[correct])}
        self._guard, self._images, self._names, self._rows = guard, images, names, rows
        self.label.options = [(names[label], label) for label in rows]
        self.label.value, self._open_title = next(iter(rows)), title
