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

from advlens.arrays import Array, checked_images, checked_labels
from advlens.memory import halve_until_it_fits
from advlens.networks.parts import last_layer

GRADIENTS_A_CALL = 10  # class gradients that one compiled call computes: bounds the size of its graph


class Classifier(TensorFlowV2Classifier):
    """A Keras network that ends in logits, in evaluation mode, for every ART attack.

    Values equal those of ART's `TensorFlowV2Classifier` with a summed categorical cross-entropy, so that an image's
    gradient does not depend on the images around it. Calls are split into batches of `batch_size`, whatever batch
    size an attack asks for, so memory stays bounded for any number of images.

    Args:
        network: (n, h, w, channels) images in [0, 1] → (n, c) logits, or the path of such a network's .keras file. A
            softmax at the end, or a sigmoid of one output (classes 0 and 1), is cut off, with a warning.
        batch_size: images that the network sees at once.
    Raises:
        TypeError: for what is no Keras model.
        ValueError: for a network without one image input and one (n, c) output, one that ends in probabilities that
            can't be cut off, or one whose weights are not finite.
    """

    def __init__(self, network: keras.Model | str | Path, *, batch_size: int = 512) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        network = with_logits(_loaded(network) if isinstance(network, str | Path) else network)
        input_shape, num_classes = _checked_shapes(network)
        super().__init__(
            model=network,
            nb_classes=num_classes,
            input_shape=input_shape,
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
            clip_values=(0.0, 1.0),
            preprocessing=None,
        )
        self.batch_size = batch_size
        images = tf.TensorSpec((None, *input_shape), tf.float32)
        targets = tf.TensorSpec((None, num_classes), tf.float32)
        self._compiled_logits = tf.function(self._logits, input_signature=[images])
        self._compiled_losses = tf.function(self._losses, input_signature=[images, targets])
        self._compiled_loss_gradient = tf.function(self._gradient, input_signature=[images, targets])
        self._compiled_class_gradients: dict[int, Callable] = {}
        self._compiled_activations: dict[tuple[str, ...], Callable] = {}
        outputs = self.predict(np.full((1, *input_shape), 0.5, np.float32))
        if not np.isfinite(outputs).all():
            raise ValueError(f"network {network.name!r} gives NaN or infinity: its weights are broken, train it again")
        if _are_probabilities(outputs):
            raise ValueError(
                f"network {network.name!r} ends in probabilities, not logits: drop its softmax and train with "
                "from_logits=True"
            )

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
        known = [layer.name for layer in self.model.layers]
        for name in names:
            if name not in known:
                raise ValueError(f"no layer is called {name!r}: choose among {', '.join(known)}")
        if names not in self._compiled_activations:
            outputs = {name: self.model.get_layer(name).output for name in names}
            self._compiled_activations[names] = _compiled(keras.Model(self.model.inputs, outputs))
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
        return _compiled(keras.Model(self.model.inputs, last_layer(self.model).input))

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


def _loaded(path: str | Path) -> keras.Model:
    path = Path(path).expanduser()
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(f"network must be a Keras model or the path of a .keras file, got {str(path)!r}")
    return keras.models.load_model(path, compile=False)  # pyright: ignore[reportReturnType]


def with_logits(network: keras.Model) -> keras.Model:
    """The network without a softmax or a binary sigmoid at its end: the same decisions, and exact logits."""
    if not isinstance(network, keras.Model) or not network.built or not getattr(network, "layers", None):
        return network  # what is wrong with it is said later
    last = network.layers[-1]
    head = (
        "softmax" if isinstance(last, keras.layers.Softmax) else getattr(getattr(last, "activation", 0), "__name__", "")
    )
    is_binary = head == "sigmoid" and network.outputs[0].shape[1:] == (1,)
    if not is_binary and head != "softmax":
        return network
    warnings.warn(f"network {network.name!r} ends in a {head}: it is cut off, so that outputs are logits", stacklevel=3)
    if isinstance(last, keras.layers.Softmax | keras.layers.Activation):
        outputs = last.input
    else:

        def linear(layer: keras.layers.Layer) -> keras.layers.Layer:
            changed = {"activation": "linear"} if layer.name == last.name else {}
            return layer.__class__.from_config(layer.get_config() | changed)

        cut = keras.models.clone_model(network, clone_function=linear)
        cut.set_weights(network.get_weights())
        network, outputs = cut, cut.outputs[0]
    if is_binary:  # logits (0, z) of classes 0 and 1
        both = keras.layers.Dense(2, use_bias=False, trainable=False, name="both_classes")
        outputs = both(outputs)
        both.set_weights([np.array([[0.0, 1.0]], np.float32)])
    return keras.Model(network.inputs, outputs, name=network.name)


def _float32(values: Array) -> Array:
    return np.asarray(values).astype(np.float32, copy=False)


def _compiled(network: keras.Model) -> Callable:
    return tf.function(lambda x: network(x, training=False), reduce_retracing=True)


def _are_probabilities(outputs: Array) -> bool:
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-4))


def _checked_shapes(network: keras.Model) -> tuple[tuple[int, int, int], int]:
    """The (h, w, channels) and the number of classes of a network that a `Classifier` can hold."""
    if not isinstance(network, keras.Model):
        raise TypeError(f"network must be a Keras 3 model, got {type(network).__name__}")
    if not network.built or len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError(f"network {network.name!r} must be built and have one input and one output")
    input_shape, output_shape = tuple(network.inputs[0].shape[1:]), tuple(network.outputs[0].shape[1:])
    if len(input_shape) != 3 or None in input_shape:
        raise ValueError(f"network {network.name!r} must take images of a fixed (h, w, channels), got {input_shape}")
    if len(output_shape) != 1 or output_shape[0] < 2:
        raise ValueError(f"network {network.name!r} must end in (n, c) logits, c ≥ 2, got (n, {output_shape})")
    return input_shape, output_shape[0]
