"""Feature responses: what in the image a layer, rather than the decision, answers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advlens.arrays import Array
from advlens.explanations.explain import explain
from advlens.networks.parts import FULL_NAMES, last_convolution, layer_called, name_in, tensors_of

if TYPE_CHECKING:
    import keras

METHODS = ("gradient", "deconvnet", "guided_backprop")
LAST_CONVOLUTION, PREDICTED = "last convolution", "predicted class"


def responses(
    network: keras.Model,
    images: Array,
    *,
    method: str = "guided_backprop",
    of: str = LAST_CONVOLUTION,
    batch_size: int = 512,
) -> Array:
    """Back-projections of a layer's activations, or of the predicted class's logit, onto the image.

    Args:
        network: Keras 3 network that ends in logits.
        images: (n, h, w, channels) floats in [0, 1].
        method: one of `METHODS`.
        of: "last convolution" (before the logits, should these be a convolution's), "predicted class", or a layer's
            name.
        batch_size: images that are worked on at once.
    Returns:
        (n, h, w, channels) float32, by the image itself.
    Raises:
        TypeError: for a network that is no Keras model.
        ValueError: for another method, an unknown layer, a network without a convolution, and whatever `explain`
            refuses.

    Notes:
        From a layer, all its activations are projected back at once: deconvnet and guided backpropagation start from
        the activations themselves, as in their papers, the gradient is that of their sum. A layer's activations are its
        outputs: where the ReLU is a layer of its own, name that one. What iNNvestigate takes, `explain` says.
    Source: Simonyan et al. 2014; Zeiler & Fergus 2014; Springenberg et al. 2015.
    """
    from advlens.networks.unfolding import unfolded  # here: the worker process has no Keras 3

    if not hasattr(network, "get_layer"):
        raise TypeError(f"network must be a Keras model, got {type(network).__name__}: of a Classifier pass .model")
    if method not in METHODS:
        raise ValueError(f"no response method is called {method!r}: choose one of {', '.join(METHODS)}")
    if of == PREDICTED:
        return explain(network, images, method=method, batch_size=batch_size)
    network = unfolded(network)
    layer = name_in(network, last_convolution(network)) if of == LAST_CONVOLUTION else of
    return explain(up_to(network, layer), images, method=method, neuron="all", batch_size=batch_size)


def up_to(network: keras.Model, layer: str) -> keras.Model:
    """The network from the image to the flattened outputs of the layer of that name, with the same weights.

    Raises:
        ValueError: for a name that no layer has.
    """
    import keras  # here, so that the explanations' worker process, which has tf_keras, can load this package

    layer_called(network, layer)
    tensors = tensors_of(network)
    outputs = keras.layers.Flatten(name="responses")(tensors.outputs[layer])
    part = keras.Model(tensors.image, outputs, name=f"{network.name}_up_to_{layer.replace('/', '.')}")
    setattr(part, FULL_NAMES, getattr(network, FULL_NAMES, {}))
    return part
