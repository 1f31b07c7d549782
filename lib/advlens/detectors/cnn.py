"""The relevancy-map study's detectors: a small network that judges images, or maps of how they were decided."""

from typing import Any

import keras
import numpy as np

from advlens.arrays import Array, checked_images, checked_seed
from advlens.classifier import Classifier, checked_classifier
from advlens.detectors.base import Detector, checked_truth
from advlens.explanations import colour_map, explain
from advlens.image_files import CODECS, through
from advlens.networks.building import built
from advlens.networks.detector import DETECTOR_NETWORKS
from advlens.networks.parts import last_layer
from advlens.training import Trained, train


class InputClassifier(Detector):
    """A convolutional network trained to tell adversarial from normal images (Gong et al. 2017; the study's slides).

    Args:
        network: a name of `networks.detector.DETECTOR_NETWORKS`.
        codec: the image file that images go through before they are judged, a name of `image_files.CODECS`.
        epochs, batch_size, learning_rate: SGD with momentum 0.9.
        patience: epochs without a better validation loss after which training stops.
        seed: governs initial weights and shuffling.
    Raises:
        ValueError: for an unknown network or codec, or a learning rate or seed that is none.

    Attributes:
        trained_: the network and its history, after `fit`.
    """

    defence_params = ("network", "codec", "epochs", "batch_size", "learning_rate", "patience", "seed")

    def __init__(
        self,
        *,
        network: str = "slide_detector_cnn",
        codec: str = "float",
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 0.01,
        patience: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.codec = codec
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.seed = seed
        self._check_params()

    def _check_params(self) -> None:
        if self.network not in DETECTOR_NETWORKS:
            raise ValueError(
                f"no detector network is called {self.network!r}: choose one of {', '.join(DETECTOR_NETWORKS)}"
            )
        if self.codec not in CODECS:
            raise ValueError(f"no codec is called {self.codec!r}: choose one of {', '.join(CODECS)}")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate}")
        checked_seed(self.seed)

    def represent(self, images: Array) -> Array:
        """What the detector's network sees of (n, h, w, channels) images: here the images after the codec."""
        return through(self.codec, images)

    def fit(
        self,
        x: Array,
        y: Array,
        batch_size: int | None = None,
        nb_epochs: int | None = None,
        *,
        validation: tuple[Array, Array] | None = None,
        **kwargs: Any,
    ) -> "InputClassifier":
        """Trains the detector's network.

        Args:
            x: (n, h, w, channels) images in [0, 1]; y: (n,) truth value, 1 where adversarial.
            validation: images and truth values whose loss stops the training; without, all epochs are trained.
        Raises:
            ValueError: for bad images, or truth values other than 0 and 1 or of one kind only.
        """
        targets = checked_truth(y, n=len(x))
        inputs = self.represent(x)
        seen = None if validation is None else self._validation(*validation)
        keras.utils.set_random_seed(self.seed)
        self.trained_ = train(
            self._untrained(inputs),
            inputs,
            targets,
            optimizer=keras.optimizers.SGD(self.learning_rate, momentum=0.9),
            epochs=self.epochs if nb_epochs is None else nb_epochs,
            batch_size=self.batch_size if batch_size is None else batch_size,
            seed=self.seed,
            validation=seen,
            patience=None if seen is None else self.patience,
        )
        return self

    def _validation(self, images: Array, is_adversarial: Array) -> tuple[Array, Array]:
        targets = checked_truth(is_adversarial, n=len(images), name="validation's is_adversarial")
        return self.represent(images), targets

    def _untrained(self, inputs: Array) -> keras.Model:
        return built(DETECTOR_NETWORKS[self.network], input_shape=inputs.shape[1:], num_classes=2)

    def adopt(self, trained: Trained) -> "InputClassifier":
        """Takes over a network that was trained before, instead of `fit`.

        Raises:
            TypeError: for anything but what training returns.
            ValueError: for a network that does not tell two classes apart.
        """
        if not isinstance(trained, Trained):
            raise TypeError(f"adopt takes a Trained, as training returns, got {type(trained).__name__}")
        if trained.network.output_shape[1:] != (2,):
            raise ValueError(f"a detector's network has 2 outputs, got {trained.network.output_shape[1:]}")
        self.trained_ = trained
        return self

    def logits(self, images: Array) -> Array:
        """(n,) log odds of "adversarial" against "normal".

        Raises:
            RuntimeError: before `fit`.
        """
        network = self._trained("trained_").network
        inputs = self.represent(checked_images(images))
        parts = [network(inputs[i : i + 512], training=False) for i in range(0, len(inputs), 512)]
        outputs = np.concatenate(parts).astype(np.float64)
        return outputs[:, 1] - outputs[:, 0]

    def scores(self, images: Array) -> Array:
        """(n,) log odds that each image is adversarial; above 0 the network says so."""
        return self.logits(images)


class RelevancyClassifier(InputClassifier):
    """The same network on maps of which pixels spoke for the task network's decision (LRP; the study's slides).

    Args:
        classifier: the task network.
        method, neuron, from_layer: the map, as `explanations.explain` names it; `from_layer="last"` is the layer
            that makes the logits, and its inputs' relevances are laid out as a square.
        coloured: True for the study's colour map (each map divided by its own maximum, 3 channels), False for the
            map itself, whose total is the explained output.
        others: as for `InputClassifier`; the codec applies to the coloured map.
    Raises:
        TypeError: for a classifier that is none.
        ValueError: for a codec other than "float" on maps without colours, which no image file can hold.
    """

    defence_params = (
        *InputClassifier.defence_params,
        "classifier",
        "method",
        "neuron",
        "from_layer",
        "coloured",
    )

    def __init__(
        self,
        classifier: Classifier,
        *,
        method: str = "deep_taylor",
        neuron: str = "predicted",
        from_layer: str | None = None,
        coloured: bool = True,
        **parameters: Any,
    ) -> None:
        self.coloured = coloured
        super().__init__(**parameters)
        self.classifier = checked_classifier(classifier)
        self.method = method
        self.neuron = neuron
        self.from_layer = from_layer

    def _check_params(self) -> None:
        super()._check_params()
        if not self.coloured and self.codec != "float":
            raise ValueError(f"the codec {self.codec!r} needs pixels in [0, 1]: pass coloured=True")

    def represent(self, images: Array) -> Array:
        """(n, h, w, 3) coloured maps after the codec, or (n, h, w, channels) maps as they are."""
        layer = last_layer(self.classifier.model).name if self.from_layer == "last" else self.from_layer
        maps = explain(
            self.classifier.model,
            checked_images(images),
            method=self.method,
            neuron=self.neuron,
            from_layer=layer,
        )
        if layer is not None:
            maps = _as_square(maps)
        return through(self.codec, colour_map(maps)) if self.coloured else maps

    def _untrained(self, inputs: Array) -> keras.Model:
        network = super()._untrained(inputs)
        if self.coloured:
            return network
        # Relevances are spread over all pixels and so are tiny: bring the training maps to a root mean square of 1.
        scale = 1 / max(float(np.sqrt(np.square(inputs, dtype=np.float64).mean())), np.finfo(np.float32).tiny)
        scaled = [keras.Input(inputs.shape[1:]), keras.layers.Rescaling(scale, name="unit_scale"), *network.layers]
        return keras.Sequential(scaled, name=network.name)


def _as_square(maps: Array) -> Array:
    """Relevances of d hidden units as a (n, s, s, 1) picture, s = ⌈√d⌉, filled row by row and padded with 0."""
    flat = maps.reshape(len(maps), -1)
    side = int(np.ceil(np.sqrt(flat.shape[1])))
    return np.pad(flat, ((0, 0), (0, side**2 - flat.shape[1]))).reshape(-1, side, side, 1)
