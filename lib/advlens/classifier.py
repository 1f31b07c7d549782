"""The task network as an ART estimator whose predictions and gradients are compiled once.

Attacks, lenses and detectors see a network only through this class; nothing here trains.
"""

import functools
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from art.estimators.classification import TensorFlowV2Classifier

from advlens.arrays import Array, checked_images, checked_labels, checked_whole
from advlens.memory import halve_until_it_fits
from advlens.networks.files import REBUILD, open_network
from advlens.networks.parts import FULL_NAMES, Tensors, last_layer, layer_called, name_in, tensors_of
from advlens.networks.unfolding import Range, averaged, is_averaged, unfolded

GRADIENTS_A_CALL = 10  # class gradients that one compiled call computes: bounds the size of its graph
RANGES = ((-1, 1), (0, 255))  # of most networks that do not take [0, 1]: the first that will do is the network's
ASKED = 500  # images by which a network's range is known
SMALLEST = 1e-30  # probability whose logarithm is taken


class Classifier(TensorFlowV2Classifier):
    """A Keras network that ends in logits, in evaluation mode, for every ART attack.

    Values equal those of ART's `TensorFlowV2Classifier` with a summed categorical cross-entropy, so that an image's
    gradient does not depend on the images around it. Calls are split into batches of `batch_size`, whatever batch
    size an attack asks for, so memory stays bounded for any number of images.

    Args:
        network: a Keras network of (n, h, w, channels) images → (n, c) logits, or the path of its .keras file. A
            softmax or sigmoid at the end is cut off, and networks inside it are unfolded: see `unfolded`.
        input_range, bgr: the values and the order of channels that the network takes: see `unfolded`. Images are in
            [0, 1] and RGB here, whatever it takes.
        passes: of a network whose outputs are random, as with dropout that is always on, how many passes are averaged:
            their logits, so that class gradients are the passes' mean gradient, as attacks on random networks take it
            (expectation over transformation), and energies keep their meaning. Softmax outputs are then the passes'
            normalised geometric mean. Two calls still differ, by 1/√passes of what two passes do. Features and
            layers are those of one pass.
        batch_size: images that the network sees at once.
    Raises:
        TypeError: for what is no Keras 3 model.
        ValueError: for a network without one image input and one (n, c) output, one whose channels come first, whose
            outputs are random without `passes`, or whose weights are not finite, and for a bad range or `passes`.

    Source: of averages over passes, Athalye et al. 2018.
    """

    def __init__(
        self,
        network: keras.Model | str | Path,
        *,
        input_range: Range | None = None,
        bgr: bool = False,
        passes: int = 1,
        batch_size: int = 512,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        network = open_network(network) if isinstance(network, str | Path) else network
        network = unfolded(network, input_range=input_range, bgr=bgr)
        input_shape, num_classes = _checked_shapes(network)
        is_random = checked_whole(passes, name="passes") > 1 or is_averaged(network)
        network = _checked_outputs(network, input_shape, may_differ=is_random)
        network = averaged(network, passes) if passes > 1 else network
        super().__init__(
            model=network,
            nb_classes=num_classes,
            input_shape=input_shape,
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
            optimizer=keras.optimizers.Adam(),  # pyright: ignore[reportArgumentType]
            clip_values=(0.0, 1.0),
            preprocessing=None,
        )
        self.input_range, self.bgr, self.passes = input_range, bgr, passes
        self.is_random, self.batch_size = is_random, batch_size
        images = tf.TensorSpec((None, *input_shape), tf.float32)
        targets = tf.TensorSpec((None, num_classes), tf.float32)
        self._compiled_logits = tf.function(self._logits, input_signature=[images])
        self._compiled_losses = tf.function(self._losses, input_signature=[images, targets])
        self._compiled_loss_gradient = tf.function(self._gradient, input_signature=[images, targets])
        self._compiled_class_gradients: dict[int, Callable] = {}
        self._compiled_activations: dict[tuple[str, ...], Callable] = {}

    def logits(self, images: Array) -> Array:
        """The network's output, (n, c) float32, for (n, h, w, channels) images in [0, 1].

        Raises:
            ValueError: for anything that is not such images.
        """
        return self.predict(checked_images(images, shape=self.input_shape))

    def features(self, images: Array) -> Array:
        """The last hidden representation: what enters the last layer that has weights, flattened.

        Returns:
            (n, d) float32.
        """
        images = checked_images(images, shape=self.input_shape)
        features = self._in_batches(self._compiled_features, images)
        return features.reshape(len(images), -1)

    def layer_activations(self, images: Array, names: Iterable[str]) -> dict[str, Array]:
        """The outputs of the layers of those names, by name, each (n, *layer's shape) float32.

        Raises:
            ValueError: for a name that no layer has.
        """
        images, names = checked_images(images, shape=self.input_shape), tuple(names)
        for name in names:
            layer_called(self.model, name)
        if names not in self._compiled_activations:
            outputs = {name: self._tensors.outputs[name] for name in names}
            self._compiled_activations[names] = _compiled(keras.Model(self._tensors.image, outputs))
        return self._in_batches(self._compiled_activations[names], images)

    def to_parts(self) -> dict[str, keras.Model]:
        """What the artifact store knows a classifier by: its network."""
        return {"network": self.model}

    def predict(self, x: Array, batch_size: int | None = None, training_mode: bool = False, **kwargs) -> Array:
        """(n, c) logits; unlike `logits` it takes values outside [0, 1], and a `batch_size` that it ignores."""
        if training_mode or self.preprocessing_operations or self.postprocessing_defences:
            return super().predict(x, batch_size or self.batch_size, training_mode, **kwargs)
        return self._in_batches(self._compiled_logits, _float32(x))

    def loss_gradient(self, x: Array, y: Array, training_mode: bool = False, **kwargs) -> Any:
        """∂ cross-entropy / ∂x, shaped as `x`, a tensor for a tensor.

        Args:
            y: (n, c) one-hot labels, or (n,) class numbers.
        """
        if training_mode or self.preprocessing_operations:
            return super().loss_gradient(x, y, training_mode, **kwargs)
        gradient = self._in_batches(self._compiled_loss_gradient, _float32(x), self._one_hot(y))
        return tf.convert_to_tensor(gradient) if tf.is_tensor(x) else gradient

    def class_gradient(
        self, x: Array, label: int | list[int] | Array | None = None, training_mode: bool = False, **kwargs
    ) -> Array:
        """∂ logits / ∂x.

        Args:
            label: None for every class, an int for that class, (n,) ints for one class an image, or (n, k) ints
                for k classes an image.
        Returns:
            (n, c, *input_shape) for None, (n, k, *input_shape) for (n, k) labels, (n, 1, *input_shape) otherwise.
        """
        if training_mode or self.preprocessing_operations:
            return super().class_gradient(x, label, training_mode, **kwargs)
        n = len(x)
        if label is None:
            classes = np.tile(np.arange(self.nb_classes), (n, 1))
        else:
            classes = np.asarray(label).astype(int)
            classes = np.full((n, 1), classes) if classes.ndim == 0 else classes.reshape(n, -1)
        return self.logits_and_class_gradients(x, classes)[1]

    def logits_and_class_gradients(self, x: Array, classes: Array) -> tuple[Array, Array]:
        """(n, c) logits and (n, k, *input_shape) gradients of the (n, k) classes given, from one forward pass."""
        groups = [
            self._in_batches(self._class_gradient_call(group.shape[1]), _float32(x), group.astype(np.int32))
            for group in np.split(classes, range(GRADIENTS_A_CALL, classes.shape[1], GRADIENTS_A_CALL), axis=1)
        ]
        if len(groups) == 1:
            return groups[0]
        return groups[0][0], np.concatenate([gradients for _, gradients in groups], axis=1)

    def compute_loss(self, x: Array, y: Array, reduction: str = "none", training_mode: bool = False, **kwargs) -> Array:
        """Cross-entropy, (n,) for the reduction "none", a scalar for "mean" and "sum"."""
        if training_mode or self.preprocessing_operations:
            return super().compute_loss(x, y, reduction, training_mode, **kwargs)
        losses = self._in_batches(self._compiled_losses, _float32(x), self._one_hot(y))
        return {"none": lambda losses: losses, "mean": np.mean, "sum": np.sum}[reduction](losses)

    def _logits(self, x: tf.Tensor) -> tf.Tensor:
        return self.model(x, training=False)

    def _losses(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax_cross_entropy_with_logits(y, self._logits(x))

    def _gradient(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            losses = self._losses(x, y)
        return tape.gradient(losses, x)  # pyright: ignore[reportReturnType]

    def _class_gradient_call(self, k: int) -> Callable:
        """The compiled call for k classes an image; its graph holds one forward and k backward passes."""

        def gradients(x: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(x)
                logits = self._logits(x)
                chosen = tf.unstack(tf.gather(logits, classes, batch_dims=1), num=k, axis=1)
            return logits, tf.stack([tape.gradient(logit, x) for logit in chosen], axis=1)

        if k not in self._compiled_class_gradients:
            signature = [tf.TensorSpec((None, *self.input_shape)), tf.TensorSpec((None, k), tf.int32)]
            self._compiled_class_gradients[k] = tf.function(gradients, input_signature=signature)
        return self._compiled_class_gradients[k]

    @functools.cached_property
    def _compiled_features(self) -> Callable:
        last = name_in(self.model, last_layer(self.model))
        return _compiled(keras.Model(self._tensors.image, self._tensors.inputs[last]))

    @functools.cached_property
    def _tensors(self) -> Tensors:
        return tensors_of(self.model)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Classifier is not pickled: model.save('mine.keras') writes it, Classifier('mine.keras') reads"
        )

    def _one_hot(self, y: Array) -> Array:
        y = np.asarray(y)
        if y.ndim == 1:
            y = np.eye(self.nb_classes)[checked_labels(y, n=len(y), num_classes=self.nb_classes)]
        return _float32(y)

    def _in_batches(self, call: Callable, *arrays: Array) -> Any:
        """What `call` gives for all images, `batch_size` at a time, or half of that where memory does not suffice."""

        def parts_of(size: int) -> list[Any]:
            return [
                tf.nest.map_structure(lambda part: part.numpy(), call(*(array[i : i + size] for array in arrays)))
                for i in range(0, max(len(arrays[0]), 1), size)
            ]

        parts = halve_until_it_fits(parts_of, self.batch_size, n=len(arrays[0]), shape=self.input_shape)
        if len(parts) == 1:
            return parts[0]
        return tf.nest.map_structure(lambda *part: np.concatenate(part), *parts)


def checked_classifier(classifier: Classifier) -> Classifier:
    """The classifier as it came.

    Raises:
        TypeError: for anything but a `Classifier`.
    """
    if not isinstance(classifier, Classifier):
        raise TypeError(f"classifier must be an advlens Classifier, got {type(classifier).__name__}: wrap the network")
    return classifier


def as_classifier(model: "Classifier | keras.Model | str | Path") -> Classifier:
    """A `Classifier` as it came, or one of a Keras network or of the path of a .keras file."""
    return model if isinstance(model, Classifier) else Classifier(model)


class WrongRange(ValueError):
    """Images show that a network takes other values than [0, 1], those of `input_range`."""

    def __init__(self, shown: str, input_range: tuple[int, int]) -> None:
        super().__init__(f"{shown}: pass Classifier(network, input_range={input_range})")
        low, high = input_range
        self.on_command_line = f"{shown}: say what it takes, as by --input-range {low} {high} (0 1 if it is [0, 1])"


def check_range(classifier: Classifier, images: Array, labels: Array) -> None:
    """Stops where labelled images show that a network takes other values than [0, 1].

    Args:
        images: (n, h, w, channels) in [0, 1]; labels: (n,) classes.
    Raises:
        WrongRange: where the network, whose range was not stated, classifies more of them correctly in another: twice
            as many, or nearly all, and more than chance gives.
    """
    if classifier.input_range is not None:
        return
    rows = asked(len(images))
    images, labels = images[rows], labels[rows]
    n = len(labels)
    correct = int((classifier.predict(images).argmax(axis=1) == labels).sum())
    if correct == n:
        return
    for low, high in RANGES:
        found = int((classifier.predict(low + (high - low) * images).argmax(axis=1) == labels).sum())
        if found - correct > 4 * np.sqrt(n - correct) and found >= min(2 * correct, 0.9 * n):
            shown = f"the network classifies {correct} of {n} images in [0, 1] correctly and {found} in [{low}, {high}]"
            raise WrongRange(shown, (low, high))


def asked(n: int) -> Array:
    """The rows of at most `ASKED` of n images, from first to last, as folders and files are often sorted by class."""
    return np.linspace(0, n - 1, min(n, ASKED)).astype(int)


def logit_margins(logits: Array, labels: Array) -> Array:
    """(n,) largest logit of another class minus that of the label: above 0 where the label is left.

    Args:
        logits: (n, c); labels: (n,) class numbers.

    >>> logit_margins(np.array([[1.0, 3.0, 0.0]]), np.array([0])).item()
    2.0
    """
    rows = np.arange(len(logits))
    others = np.array(logits, copy=True)
    others[rows, labels] = -np.inf
    return others.max(axis=1) - logits[rows, labels]


def _float32(values: Array) -> Array:
    return np.asarray(values).astype(np.float32, copy=False)


def _compiled(network: keras.Model) -> Callable:
    """A network of one output or several as a compiled function; layers of half precision give float32, too."""

    def call(x: tf.Tensor) -> Any:
        return tf.nest.map_structure(lambda output: tf.cast(output, tf.float32), network(x, training=False))

    return tf.function(call, reduce_retracing=True)


def _checked_outputs(network: keras.Model, input_shape: tuple[int, ...], *, may_differ: bool) -> keras.Model:
    """The network, which gives finite values, the same for the same images; probabilities as their logarithms."""
    images = np.random.default_rng(0).random((2, *input_shape), np.float32)
    outputs, again = (np.asarray(network(images, training=False)) for _ in range(2))
    if not np.isfinite(outputs).all():
        raise ValueError(f"network {network.name!r} gives NaN or infinity: its weights are broken, train it again")
    if not may_differ and not np.allclose(outputs, again, rtol=1e-3, atol=1e-5):
        raise ValueError(
            f"network {network.name!r} gives outputs that differ by {np.abs(outputs - again).max():.2g} for the same "
            "images: pass passes=20 (--passes 20) to average as many, or let what is random in it act in training "
            "alone, as keras.layers.Dropout does"
        )
    if (outputs < 0).any() or not np.allclose(outputs.sum(axis=1), 1, atol=1e-4):
        return network
    warnings.warn(f"network {network.name!r} ends in probabilities: logits are their logarithms", stacklevel=3)
    logits = keras.ops.log(keras.ops.maximum(network.outputs[0], SMALLEST))
    made = keras.Model(network.inputs[0], logits, name=network.name)
    setattr(made, FULL_NAMES, getattr(network, FULL_NAMES, {}))
    return made


def _checked_shapes(network: keras.Model) -> tuple[tuple[int, int, int], int]:
    """The (h, w, channels) and the number of classes of a network that a `Classifier` can hold."""
    if not isinstance(network, keras.Model):
        is_of_keras_2 = type(network).__module__.startswith("tf_keras")
        remedy = f", a model of Keras 2: {REBUILD}" if is_of_keras_2 else ""
        raise TypeError(f"network must be a Keras 3 model, got {type(network).__name__}{remedy}")
    if not network.built or not getattr(network, "inputs", None):
        raise ValueError(f"network {network.name!r} must be built: call it once, on a batch of images")
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        ends = f"{len(network.inputs)} and {len(network.outputs)}"
        raise ValueError(
            f"network {network.name!r} must have one input and one output, got {ends}: make it such a Model"
        )
    first = [each.name for each in network.layers if getattr(each, "data_format", None) == "channels_first"]
    if first:
        raise ValueError(f"layers {', '.join(first)} take the channels first: build them with channels_last")
    input_shape, output_shape = tuple(network.inputs[0].shape[1:]), tuple(network.outputs[0].shape[1:])
    if len(input_shape) != 3 or None in input_shape:
        raise ValueError(f"network {network.name!r} must take images of a fixed (h, w, channels), got {input_shape}")
    if len(output_shape) != 1 or output_shape[0] < 2:
        raise ValueError(f"network {network.name!r} must end in (n, c) logits, c ≥ 2, got (n, {output_shape})")
    return input_shape, output_shape[0]
