"""Monte-Carlo dropout: one network as t thinned ones, whose predictions differ where it is unsure."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from advlens.arrays import Array, checked_images, checked_seed, checked_whole
from advlens.memory import halve_until_it_fits
from advlens.networks.parts import name_in, unseen, weighted_layers
from advlens.networks.unfolding import unfolded
from advlens.progress import progress
from advlens.uncertainty.metrics import METRICS

Result = TypeVar("Result")


class MonteCarloDropout:
    """Predictions of t thinned networks, each with its own fixed dropout masks.

    The masks are drawn once, from the seed, and every image meets the same t of them: an image's passes are
    distributed as those of t calls with dropout switched on, but its figures depend neither on the images around it
    nor on their order. What lies before the first dropout layer is computed once an image; after it the passes are
    folded into the batch. Batch normalisation and all else stay in evaluation mode.

    Args:
        network: Keras 3 network, (n, h, w, channels) images in [0, 1] → (n, c) logits, with dropout layers, those of
            networks inside it included.
        passes: t, how many thinned networks.
        seed: governs the masks.
        layers: names of the dropout layers that are active; None for all.
        batch_size: images at once: memory is bounded by `passes` × `batch_size` activations.
    Raises:
        TypeError: for a network that is no Keras model, or layers that are no list of names.
        ValueError: for a network without such layers, a path around its first one, a dropout layer of a kind that is
            not known here, or passes (2 or more) and a batch size that are no whole numbers.

    Source: Gal & Ghahramani 2016.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        passes: int = 50,
        seed: int = 0,
        layers: Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> None:
        if not isinstance(network, keras.Model):
            raise TypeError(f"network must be a Keras model, got {type(network).__name__}: of a Classifier pass .model")
        checked_whole(passes, name="passes", least=2)
        checked_whole(batch_size, name="batch_size")
        self.network = network = unfolded(network)
        self.passes = passes
        self.batch_size = batch_size
        dropouts = _dropout_layers(network, layers)
        masks = {
            layer.name: _masks(layer, passes=passes, seed=[checked_seed(seed), number])
            for number, layer in enumerate(dropouts)
        }
        self._before, self._after = _split(network, masks)
        shape = tuple(network.inputs[0].shape[1:])
        self._compiled = tf.function(self.tensor, input_signature=[tf.TensorSpec((None, *shape))])

    def tensor(self, x: tf.Tensor) -> tf.Tensor:
        """(t, n, c) softmax outputs of (n, h, w, channels) images, differentiable by them."""
        shared = self._before(x, training=False)
        folded = tf.tile(shared, [self.passes, *[1] * (len(shared.shape) - 1)])
        probabilities = tf.nn.softmax(self._after(folded, training=False))
        return tf.reshape(probabilities, (self.passes, -1, probabilities.shape[-1]))

    def probabilities(self, images: Array) -> Array:
        """The softmax outputs of all passes, (t, n, c) float32.

        Raises:
            ValueError: for anything that is not images of the network's shape.
        """
        return np.concatenate(self._in_batches(images, lambda passes: passes), axis=1)

    def metrics(self, images: Array) -> dict[str, Array]:
        """All of `METRICS` of the same by name, (n,) float64 each; only a batch's passes are held at a time."""
        parts = self._in_batches(
            images, lambda passes: {name: metric(passes.astype(np.float64)) for name, metric in METRICS.items()}
        )
        return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}

    def _in_batches(self, images: Array, use: Callable[[Array], Result]) -> list[Result]:
        """What `use` makes of the passes of each batch, whose size is halved where memory does not suffice."""
        shape = self.network.input_shape[1:]
        images = checked_images(images, shape=shape)

        def parts_of(size: int) -> list[Result]:
            parts = []
            with progress(description="monte-carlo dropout", unit="image", total=len(images)) as bar:
                for start in range(0, len(images), size):
                    batch = images[start : start + size]
                    parts.append(use(self._compiled(batch).numpy()))
                    bar.update(len(batch))
            return parts

        return halve_until_it_fits(parts_of, self.batch_size, n=len(images), shape=shape)


class _Thinned(keras.layers.Layer):
    """Multiplies each pass's part of a folded batch by that pass's mask."""

    def __init__(self, masks: Array) -> None:
        super().__init__()
        self._masks = masks

    def call(self, x: tf.Tensor) -> tf.Tensor:
        passes = tf.reshape(x, (len(self._masks), -1, *x.shape[1:]))
        return tf.reshape(passes * self._masks[:, None], tf.shape(x))


def _split(network: keras.Model, masks: Mapping[str, Array]) -> tuple[keras.Model, keras.Model]:
    """The network up to the first layer that is thinned, and from there on, thinned; both share its weights."""
    entering = []

    def call(layer: keras.Operation, *args, **options) -> Any:
        if isinstance(layer, _Thinned) and not entering:
            entering.append(args[0])
        return layer(*args, **options)

    # A graph of its own: layers of a loaded network are in several graphs, and only name the tensors of the first.
    thinned = keras.models.clone_model(
        keras.Model(network.inputs, network.outputs),
        clone_function=lambda layer: _Thinned(masks[layer.name]) if layer.name in masks else layer,
        call_function=call,
    )
    try:
        return keras.Model(thinned.inputs, entering[0]), keras.Model(entering[0], thinned.outputs[0])
    except ValueError:
        raise ValueError(
            f"network {network.name!r} has a path around its first dropout layer {next(iter(masks))!r}: only what "
            "follows that layer can be thinned"
        ) from None


def _dropout_layers(network: keras.Model, names: Sequence[str] | None) -> list[keras.layers.Dropout]:
    """The layers to thin, in the order of computation."""
    found = _dropouts(network)
    known = [name_in(network, layer) for layer in found]
    hidden = [name for name, inner in unseen(network).items() if _dropouts(inner)]
    if hidden and found and names is None:
        warnings.warn(f"dropout in {', '.join(hidden)}, whose layers can't be seen, stays off", stacklevel=3)
    if not found:
        weighted_layers(network)  # says where they can't be seen
        raise ValueError(
            f"network {network.name!r} has no Dropout layer: uncertainty needs one, choose another network"
        )
    if names is None:
        names = known
    if isinstance(names, str) or not isinstance(names, Sequence) or len(names) == 0:
        raise TypeError(f"layers must be a list of dropout layers' names, got {names!r}: choose among {known}")
    for name in names:
        if name not in known:
            raise ValueError(f"no dropout layer is called {name!r}: choose among {', '.join(known)}")
    return [layer for layer, name in zip(found, known, strict=True) if name in names]


def _dropouts(network: keras.Model) -> list[keras.layers.Dropout]:
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]


def _masks(layer: keras.layers.Dropout, *, passes: int, seed: list[int]) -> Array:
    """(t, *layer's shape) float32: 0 where a value is dropped, else 1 / (1 − rate); whole channels where spatial."""
    shape = list(layer.input.shape[1:])  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(layer, keras.layers.SpatialDropout2D):
        shape[:2] = 1, 1
    elif type(layer) is not keras.layers.Dropout or layer.noise_shape is not None:
        raise ValueError(
            f"dropout layer {layer.name!r} must be a Dropout without noise_shape or a SpatialDropout2D, got "
            f"{type(layer).__name__}: leave it out by naming the others in layers"
        )
    kept = np.random.default_rng(seed).random((passes, *shape)) >= layer.rate
    return (kept / (1 - layer.rate)).astype(np.float32)
