"""Walks between classes, what networks say along them, and attacks of the other type to hold beside."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax

from advlens.arrays import Array
from advlens.attacks import build_attack
from advlens.attacks.crafting import generate
from advlens.attacks.type_one import TypeOneAttack, Walk
from advlens.classifier import Classifier
from advlens.generative import Generator
from advlens.store import artifact


@artifact(version=1)
def walked(network: keras.Model, generator: Generator, images: Array, aims: Array, **parameters: Any) -> Walk:
    """`TypeOneAttack.walk` of (n, h, w, channels) images to (n,) classes, n ways; `parameters` are the attack's."""
    return TypeOneAttack(Classifier(network), generator, **parameters).walk(images, aims)


def read(networks: Mapping[str, keras.Model], images: Array, labels: Array, aims: Array) -> pd.DataFrame:
    """What each network says of (n, h, w, channels) images of (n,) classes on their way to (n,) others.

    Returns:
        A row an image and network: network, place, predicted, confidence (softmax of that), of label, of aim (softmax
        of these).
    """
    rows, frames = np.arange(len(images)), []
    for name, network in networks.items():
        said = softmax(Classifier(network).logits(images).astype(np.float64), axis=1)
        columns = {"predicted": said.argmax(axis=1), "confidence": said.max(axis=1)}
        columns |= {"of label": said[rows, labels], "of aim": said[rows, aims]}
        frames.append(pd.DataFrame({"network": name, "place": rows} | columns))
    return pd.concat(frames, ignore_index=True)


@artifact(version=1)
def type_two(network: keras.Model, images: Array, aims: Array, *, seed: int, **parameters: Any) -> dict[str, Array]:
    """What BIM makes of (n, h, w, channels) images to have them seen as (n,) other classes: "adversarial", (n, …)."""
    attack = build_attack("bim_targeted", Classifier(network), **parameters)
    return {"adversarial": generate(attack, images, aims, seed=seed)}


@artifact(version=1)
def nearest_of_class(images: Array, aims: Array, *, candidates: Array, classes: Array) -> dict[str, Array]:
    """The candidate of its aim's class nearest to each image, in pixels, as "places" among the (m, …) candidates."""
    flat, others = (part.reshape(len(part), -1) for part in (images, candidates))
    places = np.empty(len(images), np.int64)
    for aim in np.unique(aims):
        rows, members = np.flatnonzero(aims == aim), np.flatnonzero(classes == aim)
        of_class = others[members]
        distances = np.square(of_class).sum(axis=1) - 2 * flat[rows] @ of_class.T
        places[rows] = members[distances.argmin(axis=1)]
    return {"places": places}


@artifact(version=1)
def generator_figures(
    generator: Generator, networks: Mapping[str, keras.Model], images: Array, labels: Array
) -> pd.DataFrame:
    """How well a generator reads and redraws (n, h, w, channels) images it has not seen.

    Returns:
        A row an image: place, squared error (mean over pixels), latent right, length (of z), and a column a
        network, "… right, redrawn".
    """
    z = generator.encode(images)
    redrawn = generator.decode(z)
    columns = {
        "place": np.arange(len(images)),
        "squared error": np.square(redrawn - images).mean(axis=(1, 2, 3), dtype=np.float64),
        "latent right": generator.classifier.predict(z, verbose=0).argmax(axis=1) == labels,
        "length": np.linalg.norm(z.astype(np.float64), axis=1),
    }
    for name, network in networks.items():
        columns[f"{name} right, redrawn"] = Classifier(network).predict(redrawn).argmax(axis=1) == labels
    return pd.DataFrame(columns)


def samples(generator: Generator, *, rows: int, columns: int, seed: int) -> Array:
    """(rows, columns, h, w, channels) images decoded from standard normal latent vectors."""
    latent = generator.decoder.input_shape[1]
    z = np.random.default_rng(seed).standard_normal((rows * columns, latent), dtype=np.float32)
    made = generator.decode(z)
    return made.reshape(rows, columns, *made.shape[1:])


def between(generator: Generator, one: Array, other: Array, *, steps: int) -> Array:
    """(steps, n, h, w, channels) decoded from the straight ways between the latent vectors of images, (n, …) each."""
    ends = generator.encode(one), generator.encode(other)
    shares = np.linspace(0, 1, steps, dtype=np.float32)[:, None, None]
    z = (1 - shares) * ends[0] + shares * ends[1]
    made = generator.decode(z.reshape(-1, z.shape[2]))
    return made.reshape(*z.shape[:2], *made.shape[1:])
