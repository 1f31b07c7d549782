"""Stand-ins of the lenses that compare a decision with those on training images."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.closeness.divergence import FLOOR
from advlens.lenses.base import fit_first
from advlens.lenses.decisions import Closeness
from advlens.lenses.differentiable.parts import SPREAD, TINY, flat, float64, outputs_of, strangeness, through
from advlens.lenses.differentiable.registry import Differentiable, differentiable
from advlens.lenses.kernel_means import KernelMeans
from advlens.lenses.neighbours import DeepNeighbours
from advlens.lenses.reconstruction import NAME, TEMPERATURES, MagNet
from advlens.lenses.subset_scanning import MOST, SubsetScanning
from advlens.lenses.training_features import LocalDimensionality, Mahalanobis, ShapSignature
from advlens.neighbours.conformal import nonconformity
from advlens.networks.parts import last_layer, name_in, tensors_of

GUIDES, RANKS = 4000, 10  # training images that stand for all as neighbours, and how many of the k nearest are followed
SAME = 1e-5  # of an image's squared norm: float32 can't tell squared distances below it from 0
AT_ONCE = 512


@differentiable.register
def _(lens: MagNet) -> Differentiable:
    fit_first(lens, "networks_")

    def measure(images: tf.Tensor) -> tf.Tensor:
        rebuilt = lens.networks_[NAME](images, training=False)
        off = float64(flat(images - rebuilt))  # pyright: ignore[reportOperatorIssue]
        own, other = (float64(lens.classifier.model(each, training=False)) for each in (images, rebuilt))
        distances = [tf.reduce_sum(tf.abs(off), axis=1), tf.norm(off, axis=1)]
        for p, q in ((tf.nn.softmax(own / t), tf.nn.softmax(other / t)) for t in TEMPERATURES):
            middle = (p + q) / 2
            relative = tf.math.xlogy(p, p / middle) + tf.math.xlogy(q, q / middle)
            distances.append(tf.reduce_sum(relative, axis=1) / 2)
        worst = tf.reduce_max(strangeness(tf.stack(distances, axis=1), lens.normal_), axis=1)
        return tf.stack([*distances, worst], axis=1)

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
    network = _features_and_logits(lens.classifier)

    def mass(activations: Any) -> tf.Tensor:
        own = tf.nn.softmax(activations) if lens.conversion == "softmax" else activations
        own = through(tf.maximum(own, FLOOR), own)
        return own / tf.reduce_sum(own, axis=1, keepdims=True)

    means = np.stack([tf.reduce_mean(mass(features[lens.labels_ == each]), axis=0) for each in range(len(counts))])
    means = tf.constant(np.nan_to_num(means, nan=1.0))  # of classes without a training row

    def measure(images: tf.Tensor) -> tf.Tensor:
        found, logits = network(images, training=False)
        decided, activations = tf.argmax(logits, axis=1, output_type=tf.int32), float64(flat(found))
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
def _(lens: ShapSignature) -> Differentiable:
    fit_first(lens, "mean_")
    network = _features_and_logits(lens.classifier)

    def measure(images: tf.Tensor) -> tf.Tensor:
        found, logits = network(images, training=False)
        return (float64(flat(found)) - lens.mean_) * tf.gather(lens.kernel.T, tf.argmax(logits, axis=1))

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: KernelMeans) -> Differentiable:
    fit_first(lens, "images_")
    rows = tf.constant(lens.images_.reshape(len(lens.images_), -1), tf.float64)
    norms = tf.reduce_sum(rows**2, axis=1)

    def measure(images: tf.Tensor) -> tf.Tensor:
        decided, x = tf.argmax(lens.classifier.model(images, training=False), axis=1), float64(flat(images))
        squares = tf.reduce_sum(x**2, axis=1, keepdims=True) + norms - 2 * tf.matmul(x, rows, transpose_b=True)
        similarity = tf.matmul(tf.exp(-squares / (2 * lens.bandwidth_**2)), lens.shares_)
        return (1 - 2 * tf.gather(similarity, decided, batch_dims=1) + tf.gather(lens.within_, decided))[:, None]

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: SubsetScanning) -> Differentiable:
    """The gradient lowers the number of units beyond the p-value at which the score is reached."""
    fit_first(lens, "sorted_")
    network, n = outputs_of(lens.classifier, [lens.layer]), len(lens.sorted_)
    by_unit = tf.constant(np.ascontiguousarray(lens.sorted_.T))
    width = SPREAD * lens.sorted_.std(axis=0) * n**-0.2
    width = np.where(width > 0, width, 1)

    def measure(images: tf.Tensor) -> tf.Tensor:
        units = flat(network(images, training=False)[lens.layer])
        below = tf.transpose(tf.searchsorted(by_unit, tf.transpose(units)))
        p_values = tf.sort(float64(1 + n - below) / (1 + n), axis=1)
        counts = tf.range(1, p_values.shape[1] + 1, dtype=tf.float64)
        scores = tf.where(p_values <= MOST, -tf.math.log(p_values) * counts, 0)
        hard, best = tf.reduce_max(scores, axis=1), tf.gather(p_values, tf.argmax(scores, axis=1), batch_dims=1)
        # A unit's p-value is at most α where it is above this many of the training images' values.
        place = tf.cast(n - tf.round(best * (1 + n)), tf.int32)
        limits = tf.transpose(tf.gather(by_unit, tf.clip_by_value(place, 0, n - 1), axis=1))
        beyond = tf.reduce_sum(tf.sigmoid(float64((units - limits) / width)), axis=1)
        return through(hard, -tf.math.log(best) * beyond)[:, None]

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Mahalanobis) -> Differentiable:
    fit_first(lens, "means_")
    network = outputs_of(lens.classifier, lens.layers)

    def measure(images: tf.Tensor) -> tf.Tensor:
        squares = []
        found = network(images, training=False)
        for name in lens.layers:
            own = tf.reduce_mean(found[name], axis=(1, 2)) if found[name].shape.rank == 4 else found[name]
            offsets = float64(own)[:, None] - lens.means_[name]
            squares.append(tf.reduce_min(tf.reduce_sum(offsets @ lens.precisions_[name] * offsets, axis=2), axis=1))
        return tf.stack(squares, axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: LocalDimensionality) -> Differentiable:
    fit_first(lens, "images_")
    network, among = outputs_of(lens.classifier, lens.layers), {}
    for name, found in lens.classifier.layer_activations(lens.images_, lens.layers).items():
        rows = found.reshape(len(found), -1)
        centre = rows.mean(axis=0)
        among[name] = centre, tf.constant(rows - centre), tf.constant(np.square(rows - centre).sum(axis=1))

    def measure(images: tf.Tensor) -> tf.Tensor:
        columns, found = [], network(images, training=False)
        for name, (centre, rows, norms) in among.items():
            x = flat(found[name]) - centre
            own = tf.reduce_sum(x**2, axis=1, keepdims=True)
            squares = own + norms - 2 * tf.matmul(x, rows, transpose_b=True)
            squares = tf.where(squares > SAME * own, squares, np.inf)  # a reference image is not its own neighbour
            logs = tf.math.log(float64(-tf.math.top_k(-squares, lens.k).values))
            columns.append(-2 / tf.minimum(tf.reduce_mean(logs - logs[:, -1:], axis=1), -TINY))
        return tf.stack(columns, axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: DeepNeighbours) -> Differentiable:
    """Σ over layers of the soft share of neighbours with another label, over the layers' number.

    Followed are k training images of a label and k of others, the nearest at the last search (some of them, spread
    over the ranks), each with the weight exp(−d²/σ²), σ² the spread of d² among them, by image and layer. The label is
    that of most neighbours for the credibility, the network's for the decision's p-value, and that of the second-most
    neighbours for the confidence, which falls as these agree.

    Source: Sitawarin & Wagner 2019, who also pull an image towards training images of one label.
    """
    fit_first(lens, "training_")
    images, labels = lens.training_
    chosen = np.random.default_rng(0).permutation(len(images))[:GUIDES]
    labels = np.asarray(labels)[chosen]
    k = max(round(lens.knn.k * len(chosen) / len(images)), 1)
    ranks = np.unique(np.linspace(0, min(k, np.bincount(labels).min()) - 1, RANKS).round().astype(int))
    network = outputs_of(lens.classifier, lens.knn.layers)

    def represented(images: tf.Tensor) -> list[tf.Tensor]:
        found = network(images, training=False)
        return [tf.math.l2_normalize(flat(found[name]), axis=1, epsilon=TINY) for name in lens.knn.layers]

    batch = tf.function(represented, reduce_retracing=True)

    def in_batches(images: Array) -> list[Array]:
        parts = [batch(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE)]
        return [np.concatenate([each.numpy() for each in layer]) for layer in zip(*parts, strict=True)]

    guides = in_batches(images[chosen])

    def context(images: Array) -> tuple[Array, ...]:
        near = [own @ rows.T for own, rows in zip(in_batches(images), guides, strict=True)]
        voters = np.stack([labels[np.argpartition(-each, k, axis=1)[:, :k]] for each in near], axis=1)
        most, second = nonconformity(voters, lens.classifier.nb_classes).argsort(axis=1, kind="stable").T[:2]
        followed = [labels == each[:, None] for each in (most, lens.classifier.predict(images).argmax(axis=1), second)]
        return tuple(
            np.concatenate([_nearest(each, is_own, rows, ranks) for is_own in followed], axis=1)
            for each, rows in zip(near, guides, strict=True)
        )

    def measure(images: tf.Tensor, *context: tf.Tensor) -> tf.Tensor:
        shares = []
        for own, followed in zip(represented(images), context, strict=True):
            squares = 2 - 2 * tf.linalg.matvec(followed, own)
            squares = tf.reshape(squares, (-1, 3, 2 * len(ranks)))  # the label of most, the decision, the second label
            spread = tf.stop_gradient(tf.math.reduce_std(squares, axis=2, keepdims=True))
            weights = tf.nn.softmax(-squares / (spread + TINY), axis=2)
            shares.append(tf.reduce_sum(weights[:, :, len(ranks) :], axis=2))
        most, decided, second = tf.unstack(float64(tf.add_n(shares) / len(shares)), axis=1)
        return tf.stack([most, decided, 1 - second], axis=1)

    return Differentiable(lens.columns, measure, context)


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


def _features_and_logits(classifier: Classifier) -> keras.Model:
    """What enters the last layer, and the logits."""
    tensors = tensors_of(classifier.model)
    entry = tensors.inputs[name_in(classifier.model, last_layer(classifier.model))]
    return keras.Model(tensors.image, [entry, tensors.logits])
