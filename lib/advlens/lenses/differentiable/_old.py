"""Lenses as TensorFlow functions of the images, for an attacker who knows them. The real lens stays the judge.

What the stand-ins are: outputs, largest softmax, pixels, closeness, Mahalanobis distances, local dimensionality, shifts
and rotations, blanked patches, dropout uncertainty (with the lens's own masks) and sensitivity to noise (with its own
draws) are exact. Feature squeezing and noise reduction have the right values, and gradients as if grey levels were not
rounded; MagNet's distances are exact, its p-value has the right value, and the gradient of a smooth one. Local entropy,
relevancy maps and their reconstruction have the native maps' values, and gradients of softplus networks, the entropy
those of a histogram with blurred levels. Deep kNN's p-values are replaced by a smooth share of neighbours with another
label, which rises and falls with them. Joined lenses have what their parts have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from itertools import product
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.closeness.divergence import FLOOR
from advlens.explanations.native import explainer
from advlens.explanations.responses import LAST_CONVOLUTION, PREDICTED, up_to
from advlens.lenses.base import Joined, Lens, fit_first
from advlens.lenses.decisions import MAX_SOFTMAX, Baselines, Closeness, Uncertainty
from advlens.lenses.neighbours import CREDIBILITY, OF_DECISION, DeepNeighbours
from advlens.lenses.noise_reduction import NoiseReduction, reduce_noise
from advlens.lenses.outputs import Outputs
from advlens.lenses.pictures import LocalEntropy, Pixels, Relevancy
from advlens.lenses.reconstruction import NAME, TEMPERATURES, MagNet, MapReconstruction
from advlens.lenses.stability import MOVES, Augmented, FeatureSqueezing, LeaveOneOut, Sensitivity, transformed
from advlens.lenses.training_features import LocalDimensionality, Mahalanobis
from advlens.neighbours.conformal import nonconformity
from advlens.networks.parts import last_convolution, last_layer, name_in, tensors_of

SHARPNESS = 30.0  # of the softplus in place of ReLU where maps are differentiated
BLUR = 4.0  # grey levels, at which two count as half the same one
GUIDES, RANKS = 4000, 10  # training images that stand for all as neighbours, and how many of the k nearest are followed
KNOTS = 200  # quantiles of normal images that stand for all where p-values are smoothed
SAME = 1e-5  # of an image's squared norm: float32 can't tell squared distances below it from 0
AT_ONCE = 512
TINY = 1e-12


@dataclass(frozen=True)
class Differentiable:
    """A lens's measurements as a TensorFlow function.

    Attributes:
        columns: the lens's columns that it has, in order.
        measure: (n, h, w, channels) float32 images in [0, 1], and the context → (n, columns) float64.
        context: images → arrays with a row an image, looked up outside the graph anew every few steps; mostly none.
    """

    columns: tuple[str, ...]
    measure: Callable[..., tf.Tensor]
    context: Callable[[Array], tuple[Any, ...]] = lambda images: ()


@singledispatch
def differentiable(lens: Lens) -> Differentiable:
    """A lens's measurements for `tf.GradientTape`; one of your own is added by `@differentiable.register`.

    Raises:
        ValueError: for a lens without; RuntimeError: for one that has not seen the training images that it needs.

    >>> differentiable(Pixels((2, 2, 1))).measure(tf.ones((3, 2, 2, 1))).shape
    TensorShape([3, 4])
    """
    raise ValueError(f"{lens.name} has no differentiable measurements: add them by @differentiable.register")


@differentiable.register
def _(lens: Joined) -> Differentiable:
    """The columns of all parts that have a gradient."""
    parts = []
    for each in lens.lenses:
        try:
            parts.append(differentiable(each))
        except ValueError:
            if each is lens.lenses[-1] and not parts:
                raise

    def context(images: Array) -> tuple[Any, ...]:
        return tuple(part.context(images) for part in parts)

    def measure(images: tf.Tensor, *contexts: Any) -> tf.Tensor:
        return tf.concat([part.measure(images, *own) for part, own in zip(parts, contexts, strict=True)], axis=1)

    return Differentiable(tuple(column for part in parts for column in part.columns), measure, context)


@differentiable.register
def _(lens: Pixels) -> Differentiable:
    return Differentiable(lens.columns, lambda images: _float64(_flat(images)))


@differentiable.register
def _(lens: Outputs) -> Differentiable:
    def measure(images: tf.Tensor) -> tf.Tensor:
        logits = _float64(lens.classifier.model(images, training=False))
        return tf.stack([-tf.reduce_logsumexp(logits, axis=1), -tf.reduce_max(logits, axis=1)], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Baselines) -> Differentiable:
    def measure(images: tf.Tensor) -> tf.Tensor:
        logits = _float64(lens.classifier.model(images, training=False))
        exponentials = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
        is_largest = tf.one_hot(tf.argmax(logits, axis=1), logits.shape[1], dtype=tf.float64)
        others = tf.reduce_sum(exponentials * (1 - is_largest), axis=1, keepdims=True)
        return others / (others + tf.reduce_sum(exponentials * is_largest, axis=1, keepdims=True))

    return Differentiable((MAX_SOFTMAX,), measure)


@differentiable.register
def _(lens: FeatureSqueezing) -> Differentiable:
    levels = 2**lens.bits - 1

    def measure(images: tf.Tensor) -> tf.Tensor:
        squeezed = _through(tf.round(images * levels) / levels, images)
        coarse, filtered = _moved(lens.classifier, images, squeezed, _median_filter(images, lens.median))
        return tf.stack([coarse, filtered, tf.maximum(coarse, filtered)], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Augmented) -> Differentiable:
    """A move of the pixels' own numbers says between which four each new one lies."""
    height, width, channels = lens.classifier.input_shape
    numbers, corners = np.moveaxis(np.indices((height, width), np.float64), 0, -1)[None], []
    for move in MOVES.values():
        came_from = transformed(numbers, *move).reshape(-1, 2)
        low = np.floor(came_from).astype(int)
        ends = (low, 1 - came_from + low), (np.minimum(low + 1, (height - 1, width - 1)), came_from - low)
        places = np.stack([row[:, 0] * width + column[:, 1] for (row, _), (column, _) in product(ends, repeat=2)])
        shares = np.stack([row[:, 0] * column[:, 1] for (_, row), (_, column) in product(ends, repeat=2)])
        corners.append((places, shares[..., None].astype(np.float32)))

    def measure(images: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(images, (-1, height * width, channels))
        others = [tf.reduce_sum(tf.gather(flat, places, axis=1) * shares, axis=1) for places, shares in corners]
        found = _moved(lens.classifier, images, *(tf.reshape(each, tf.shape(images)) for each in others))
        return tf.stack([*found, tf.add_n(found) / len(found)], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Sensitivity) -> Differentiable:
    """The jump of the attribution where a ReLU switches has no gradient; all else has."""
    model = lens.classifier.model
    noise = list(lens._noisy(np.zeros((1, *lens.classifier.input_shape), np.float32)))

    def seen(images: tf.Tensor, classes: tf.Tensor | None = None) -> tuple[Any, ...]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = model(images, training=False)
            classes = tf.argmax(logits, axis=1) if classes is None else classes
            own = tf.gather(logits, classes, batch_dims=1)
        attribution = tape.gradient(own, images) * images  # pyright: ignore[reportOperatorIssue]
        return _float64(logits), _float64(_flat(attribution)), classes

    def measure(images: tf.Tensor) -> tf.Tensor:
        *own, classes = seen(images)
        others = [seen(images + each, classes)[:2] for each in noise]
        sums = [[tf.reduce_sum(tf.abs(a - b), axis=1) for a, b in zip(each, own, strict=True)] for each in others]
        return tf.transpose(tf.reduce_mean(sums, axis=0))

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: LeaveOneOut) -> Differentiable:
    """With all patches' images in one batch, so that it takes much memory."""
    (height, width, channels), side = lens.classifier.input_shape, lens.patch
    rows, columns = (np.arange(length) // side for length in (height, width))
    patch = rows[:, None] * (columns[-1] + 1) + columns
    kept = (patch != np.arange(patch.max() + 1)[:, None, None])[..., None].astype(np.float32)
    network, places = _layers(lens.classifier, lens.layers), np.array((0.75, 0.25)) * (len(kept) - 1)

    def measure(images: tf.Tensor) -> tf.Tensor:
        blanked = tf.reshape(images[:, None] * kept, (-1, height, width, channels))  # pyright: ignore[reportIndexIssue]
        own, others, spreads = network(images, training=False), network(blanked, training=False), []
        for name in lens.layers:
            one = _flat(own[name])[:, None]
            squares = tf.reduce_sum((tf.reshape(others[name], (-1, len(kept), one.shape[2])) - one) ** 2, axis=2)
            lengths = tf.sort(tf.sqrt(tf.maximum(_float64(squares), TINY**2)), axis=1)
            low, high = (tf.gather(lengths, end(places).astype(int), axis=1) for end in (np.floor, np.ceil))
            quantiles = low + (places % 1) * (high - low)
            spreads.append(quantiles[:, 0] - quantiles[:, 1])
        return tf.stack(spreads, axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: NoiseReduction) -> Differentiable:
    def measure(images: tf.Tensor) -> tf.Tensor:
        reduced = tf.ensure_shape(tf.numpy_function(reduce_noise, [images], tf.float32), images.shape)
        return _moved(lens.classifier, images, _through(reduced, images))[0][:, None]

    return Differentiable(lens.columns[1:], measure)


@differentiable.register
def _(lens: Uncertainty) -> Differentiable:
    def measure(images: tf.Tensor) -> tf.Tensor:
        passes = _float64(lens.dropout.tensor(images))
        mean, spread = tf.reduce_mean(passes, axis=0), tf.math.reduce_variance(passes, axis=0)
        total, within = (-tf.reduce_sum(tf.math.xlogy(p, p), axis=-1) for p in (mean, passes))
        columns = {
            "variance": tf.reduce_mean(spread, axis=1),
            "entropy": total,
            "mutual information": tf.nn.relu(total - tf.reduce_mean(within, axis=0)),
            "confidence": tf.reduce_max(mean, axis=1),
            "aleatoric": tf.reduce_mean(tf.reduce_sum(passes * (1 - passes), axis=2), axis=0),
            "epistemic": tf.reduce_sum(spread, axis=1),
        }
        return tf.stack([columns[name] for name in lens.columns], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: LocalEntropy) -> Differentiable:
    model, of = lens.classifier.model, lens.of
    if of != PREDICTED:
        model = up_to(model, name_in(model, last_convolution(model)) if of == LAST_CONVOLUTION else of)
    maps = _maps(model, method=lens.method, neuron="predicted" if of == PREDICTED else "all")
    window, bins, stride = (lens.patches[name] for name in ("window", "bins", "stride"))

    def measure(images: tf.Tensor) -> tf.Tensor:
        levels = _grey_levels(maps(images), bins=bins, normalisation=lens.patches["normalisation"])
        height, width = levels.shape[1:]
        pixels = [
            levels[:, i : height - window + i + 1 : stride, j : width - window + j + 1 : stride]
            for i, j in product(range(window), repeat=2)
        ]
        patches = tf.stack(pixels, axis=3)
        apart, whole = (each[..., None, :] - each[..., None] for each in (patches, tf.floor(patches)))
        hard, soft = (
            -tf.reduce_mean(tf.math.log(tf.reduce_mean(same, axis=4)), axis=(1, 2, 3)) / np.log(2)
            for same in (tf.cast(whole == 0, tf.float32), 1 / (1 + tf.square(apart / BLUR)))
        )
        return _float64(_through(hard, soft))[:, None]

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Relevancy) -> Differentiable:
    if lens.coloured:
        raise ValueError("coloured relevancy maps can't be differentiated: make the lens with coloured=False")
    model = lens.classifier.model
    layer = name_in(model, last_layer(model)) if lens.last_layer else None
    maps = _maps(model, method=lens.method, neuron=lens.neuron, from_layer=layer)

    def measure(images: tf.Tensor) -> tf.Tensor:
        flat = _float64(_flat(maps(images)))
        lacking = len(lens.columns) - flat.shape[1]  # pyright: ignore[reportOperatorIssue]
        return tf.pad(flat, [[0, 0], [0, lacking]])  # hidden units are laid out as a square

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: MagNet) -> Differentiable:
    fit_first(lens, "networks_")

    def measure(images: tf.Tensor) -> tf.Tensor:
        rebuilt = lens.networks_[NAME](images, training=False)
        off = _float64(_flat(images - rebuilt))  # pyright: ignore[reportOperatorIssue]
        own, other = (_float64(lens.classifier.model(each, training=False)) for each in (images, rebuilt))
        distances = [tf.reduce_sum(tf.abs(off), axis=1), tf.norm(off, axis=1)]
        for p, q in ((tf.nn.softmax(own / t), tf.nn.softmax(other / t)) for t in TEMPERATURES):
            middle = (p + q) / 2
            relative = tf.math.xlogy(p, p / middle) + tf.math.xlogy(q, q / middle)
            distances.append(tf.reduce_sum(relative, axis=1) / 2)
        worst = tf.reduce_max(strangeness(tf.stack(distances, axis=1), lens.normal_), axis=1)
        return tf.stack([*distances, worst], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: MapReconstruction) -> Differentiable:
    fit_first(lens, "networks_")
    maps, known = _maps(lens.classifier.model, method=lens.method, neuron="predicted"), [*map(int, lens.networks_)]

    def measure(images: tf.Tensor) -> tf.Tensor:
        found, decided = maps(images), tf.argmax(lens.classifier.model(images, training=False), axis=1)
        found /= tf.maximum(_root_mean_square(found), TINY)  # pyright: ignore[reportOperatorIssue]
        off = [found - network(found, training=False) for network in lens.networks_.values()]
        errors = _float64(tf.concat([tf.reshape(_root_mean_square(each), (-1, 1)) for each in off], axis=1))
        is_own = decided[:, None] == tf.constant(known, tf.int64)
        own = tf.reduce_sum(tf.where(is_own, errors, 0), axis=1)
        return tf.where(tf.reduce_any(is_own, axis=1), own, tf.reduce_max(errors, axis=1))[:, None]

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Closeness) -> Differentiable:
    fit_first(lens, "features_")
    features, h = lens.features_.astype(np.float64), lens.bandwidth
    centre = features.mean(axis=0)
    counts = np.bincount(lens.labels_, minlength=lens.classifier.nb_classes)
    rows = [tf.constant((features[lens.labels_ == each] - centre) / h) for each in range(len(counts))]
    halves = [tf.reduce_sum(each**2, axis=1) / 2 for each in rows]
    constants = tf.constant(np.log(np.maximum(counts, 1)) + features.shape[1] * np.log(h * np.sqrt(2 * np.pi)))
    tensors = tensors_of(lens.classifier.model)
    entry = tensors.inputs[name_in(lens.classifier.model, last_layer(lens.classifier.model))]
    network = keras.Model(tensors.image, [entry, tensors.logits])

    def mass(activations: Any) -> tf.Tensor:
        own = tf.nn.softmax(activations) if lens.conversion == "softmax" else activations
        own = _through(tf.maximum(own, FLOOR), own)
        return own / tf.reduce_sum(own, axis=1, keepdims=True)

    means = np.stack([tf.reduce_mean(mass(features[lens.labels_ == each]), axis=0) for each in range(len(counts))])
    means = tf.constant(np.nan_to_num(means, nan=1.0))  # of classes without a training row

    def measure(images: tf.Tensor) -> tf.Tensor:
        found, logits = network(images, training=False)
        decided, activations = tf.argmax(logits, axis=1, output_type=tf.int32), _float64(_flat(found))
        x, p = (activations - centre) / h, mass(activations)
        of_class, places = (tf.dynamic_partition(each, decided, len(rows)) for each in (x, tf.range(tf.shape(x)[0])))
        exponents = [
            tf.matmul(own, others, transpose_b=True) - half
            for own, others, half in zip(of_class, rows, halves, strict=True)
        ]
        sums = tf.dynamic_stitch(places, [tf.reduce_logsumexp(each, axis=1) for each in exponents])
        sums -= tf.reduce_sum(x**2, axis=1) / 2
        divergence = tf.reduce_sum(p * tf.math.log(p / tf.gather(means, decided)), axis=1)
        return tf.stack([sums - tf.gather(constants, decided), divergence], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Mahalanobis) -> Differentiable:
    fit_first(lens, "means_")
    network = _layers(lens.classifier, lens.layers)

    def measure(images: tf.Tensor) -> tf.Tensor:
        squares = []
        found = network(images, training=False)
        for name in lens.layers:
            own = tf.reduce_mean(found[name], axis=(1, 2)) if found[name].shape.rank == 4 else found[name]
            offsets = _float64(own)[:, None] - lens.means_[name]
            squares.append(tf.reduce_min(tf.reduce_sum(offsets @ lens.precisions_[name] * offsets, axis=2), axis=1))
        return tf.stack(squares, axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: LocalDimensionality) -> Differentiable:
    fit_first(lens, "images_")
    network, among = _layers(lens.classifier, lens.layers), {}
    for name, found in lens.classifier.layer_activations(lens.images_, lens.layers).items():
        rows = found.reshape(len(found), -1)
        centre = rows.mean(axis=0)
        among[name] = centre, tf.constant(rows - centre), tf.constant(np.square(rows - centre).sum(axis=1))

    def measure(images: tf.Tensor) -> tf.Tensor:
        columns, found = [], network(images, training=False)
        for name, (centre, rows, norms) in among.items():
            x = _flat(found[name]) - centre
            own = tf.reduce_sum(x**2, axis=1, keepdims=True)
            squares = own + norms - 2 * tf.matmul(x, rows, transpose_b=True)
            squares = tf.where(squares > SAME * own, squares, np.inf)  # a reference image is not its own neighbour
            logs = tf.math.log(_float64(-tf.math.top_k(-squares, lens.k).values))
            columns.append(-2 / tf.minimum(tf.reduce_mean(logs - logs[:, -1:], axis=1), -TINY))
        return tf.stack(columns, axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: DeepNeighbours) -> Differentiable:
    """Σ over layers of the soft share of neighbours with another label, over the layers' number.

    Followed are k training images of a label and k of others, the nearest at the last search (some of them, spread
    over the ranks), each with the weight exp(−d²/σ²), σ² the spread of d² among them, by image and layer. The label is
    that of most neighbours for the credibility, and the network's for the decision's p-value.

    Source: Sitawarin & Wagner 2019, who also pull an image towards training images of one label.
    """
    fit_first(lens, "training_")
    images, labels = lens.training_
    chosen = np.random.default_rng(0).permutation(len(images))[:GUIDES]
    labels = np.asarray(labels)[chosen]
    k = max(round(lens.knn.k * len(chosen) / len(images)), 1)
    ranks = np.unique(np.linspace(0, min(k, np.bincount(labels).min()) - 1, RANKS).round().astype(int))
    network = _layers(lens.classifier, lens.knn.layers)

    def represented(images: tf.Tensor) -> list[tf.Tensor]:
        found = network(images, training=False)
        return [tf.math.l2_normalize(_flat(found[name]), axis=1, epsilon=TINY) for name in lens.knn.layers]

    batch = tf.function(represented, reduce_retracing=True)

    def in_batches(images: Array) -> list[Array]:
        parts = [batch(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE)]
        return [np.concatenate([each.numpy() for each in layer]) for layer in zip(*parts, strict=True)]

    guides = in_batches(images[chosen])

    def context(images: Array) -> tuple[Array, ...]:
        near = [own @ rows.T for own, rows in zip(in_batches(images), guides, strict=True)]
        voters = np.stack([labels[np.argpartition(-each, k, axis=1)[:, :k]] for each in near], axis=1)
        most = nonconformity(voters, lens.classifier.nb_classes).argmin(axis=1)
        decided = lens.classifier.predict(images).argmax(axis=1)
        return tuple(
            np.concatenate([_nearest(each, labels == wanted[:, None], rows, ranks) for wanted in (most, decided)], 1)
            for each, rows in zip(near, guides, strict=True)
        )

    def measure(images: tf.Tensor, *context: tf.Tensor) -> tf.Tensor:
        shares = []
        for own, followed in zip(represented(images), context, strict=True):
            squares = 2 - 2 * tf.linalg.matvec(followed, own)
            squares = tf.reshape(squares, (-1, 2, 2 * len(ranks)))  # the label of most, the decision
            spread = tf.stop_gradient(tf.math.reduce_std(squares, axis=2, keepdims=True))
            weights = tf.nn.softmax(-squares / (spread + TINY), axis=2)
            shares.append(tf.reduce_sum(weights[:, :, len(ranks) :], axis=2))
        return _float64(tf.add_n(shares) / len(shares))

    return Differentiable((CREDIBILITY, OF_DECISION), measure, context)


def _nearest(near: Array, is_own: Array, rows: Array, ranks: Array) -> Array:
    """(n, 2r, d) rows: for each image those of some ranks among its own label's, then among the others'.

    Args:
        near: (n, m) cosines with m rows; is_own: (n, m) bool; rows: (m, d); ranks: (r,) from 0, the nearest.
    """
    last = ranks[-1] + 1
    found = []
    for is_wanted in (is_own, ~is_own):
        cosines = np.where(is_wanted, near, -np.inf)
        first = np.argpartition(-cosines, last - 1, axis=1)[:, :last]
        order = np.argsort(-np.take_along_axis(cosines, first, axis=1), axis=1)
        found.append(np.take_along_axis(first, order, axis=1)[:, ranks])
    return rows[np.concatenate(found, axis=1)]


def strangeness(values: tf.Tensor, normal: Array) -> tf.Tensor:
    """−log p of values among those of normal images, column by column, with the gradient of a smooth p.

    p is the share of normal images that are as high, itself counted. Its gradient is that of p smoothed by a logistic
    kernel as wide as Silverman's: far above all normal values it goes on, where p itself stays as it is.

    Args:
        values: (n, columns) float64; normal: (m, columns) float64, each column sorted.

    >>> strangeness(tf.constant([[0.5], [9.0]], tf.float64), np.array([[0.0], [1.0], [2.0]])).numpy().round(4).tolist()
    [[0.2877], [1.3863]]
    """
    m = len(normal)
    below = tf.transpose(tf.searchsorted(np.ascontiguousarray(normal.T), tf.transpose(values)))
    hard = -tf.math.log(_float64(1 + m - below) / (1 + m))  # pyright: ignore[reportOperatorIssue]
    knots = np.quantile(normal, (np.arange(KNOTS) + 0.5) / KNOTS, axis=0)
    width = 0.6 * normal.std(axis=0) * m**-0.2
    above = tf.math.log_sigmoid((knots - values[:, None]) / np.where(width > 0, width, 1.0))
    return _through(hard, -tf.reduce_logsumexp(above, axis=1))


# ---------------------------------------------------------------- parts of these


def _float64(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(values, tf.float64)


def _flat(values: tf.Tensor) -> tf.Tensor:
    return tf.reshape(values, (-1, values.shape[1:].num_elements()))


def _root_mean_square(maps: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(maps**2, axis=(1, 2, 3), keepdims=True))


def _moved(classifier: Classifier, images: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
    """(n,) L1 distances between the softmax outputs of images and of each of their other versions."""
    own, *moved = (tf.nn.softmax(_float64(classifier.model(each, training=False))) for each in (images, *others))
    return [tf.reduce_sum(tf.abs(own - each), axis=1) for each in moved]


def _through(hard: tf.Tensor, soft: tf.Tensor) -> tf.Tensor:
    """The value of the one with the gradient of the other (a straight-through estimator)."""
    return soft + tf.stop_gradient(hard - soft)


def _layers(classifier: Classifier, names: Sequence[str]) -> keras.Model:
    """The network whose outputs are those of some layers, by name."""
    tensors = tensors_of(classifier.model)
    return keras.Model(tensors.image, {name: tensors.outputs[name] for name in names})


def _maps(model: keras.Model, *, from_layer: str | None = None, **about: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Native maps with the gradients of smooth ones."""
    exact, smooth = (explainer(model, from_layer=from_layer, softplus=each, **about) for each in (None, SHARPNESS))
    return lambda images: _through(exact(images), smooth(images))


def _median_filter(images: tf.Tensor, size: int) -> tf.Tensor:
    """As SciPy's with the mode "reflect": of an even number of pixels the upper one of the two in the middle."""
    before, (_, height, width, _) = size // 2, images.shape.as_list()
    after = size - 1 - before
    padded = tf.pad(images, [[0, 0], [before, after], [before, after], [0, 0]], "SYMMETRIC")
    patch = [padded[:, i : i + height, j : j + width] for i, j in product(range(size), repeat=2)]  # pyright: ignore[reportOperatorIssue]
    return tf.sort(tf.stack(patch, axis=4), axis=4)[..., size * size // 2]


def _grey_levels(maps: tf.Tensor, *, bins: int, normalisation: str) -> tf.Tensor:
    """`explanations.entropy.grey_levels` before they are cut to whole ones."""
    grey = tf.reduce_mean(maps, axis=3)
    if normalisation == "absolute":
        grey = tf.abs(grey)
    low, high = (end(grey, axis=(1, 2), keepdims=True) for end in (tf.reduce_min, tf.reduce_max))
    if normalisation != "minmax":
        high = tf.maximum(high, -low)
        low = -high if normalisation == "symmetric" else tf.zeros_like(high)
    return tf.minimum(tf.math.divide_no_nan(grey - low, high - low) * bins, bins - 1)
