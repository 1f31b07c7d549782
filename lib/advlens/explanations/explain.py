"""`explain`: maps of how a network decided, by iNNvestigate, from eager Keras 3 code.

What to know of its maps:

- Deep Taylor explains max(0, logit): where the explained logit is negative the map is all zeros.
- Through an `Add`, as of a residual block, Deep Taylor counts the relevance once a branch: the map of n blocks adds up
  to 2ⁿ times the logit. A warning says so.
- Layers that act in training alone (dropout, Gaussian noise) are left out first, so a rule for the first layer is
  that of the first one that computes something; iNNvestigate, run directly, would waste it on the noise.
- Convolutions in groups, depthwise and separable ones are explained as plain ones with zeros; each use of a layer
  that is used several times is one of its own.
- Guided backprop and deconvnet start from the logit, not from 1: their maps are those of the papers times the logit
  where it is positive, and of the evidence against it elsewhere.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from advlens.arrays import Array, checked_images
from advlens.explanations.arguments import in_batches, network_of, neuron_selection
from advlens.explanations.describe import IMAGE, Description, Request, describe
from advlens.explanations.evaluation import evaluate
from advlens.explanations.process import Refused, worker

if TYPE_CHECKING:
    import keras

    from advlens.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class Method:
    """What must be known of one of iNNvestigate's methods.

    Attributes:
        only_relu: it takes no activation but ReLU.
        gradient: its maps are gradients, so that they scale with the input; else they share out relevance.
        first_rule: it has a rule of its own for the first layer, which must be a convolution or dense.
    """

    only_relu: bool = False
    gradient: bool = False
    first_rule: bool = False


ENGINES = ("innvestigate", "native")
WITHOUT_LAYERS = ("gradient", "input_t_gradient")  # methods that need none: a network is one function to them
METHODS: dict[str, Method] = {
    "deep_taylor": Method(only_relu=True),
    "deep_taylor.bounded": Method(only_relu=True, first_rule=True),
    "guided_backprop": Method(only_relu=True, gradient=True),
    "deconvnet": Method(only_relu=True, gradient=True),
    "gradient": Method(gradient=True),
    "input_t_gradient": Method(),
    "lrp.z": Method(),
    "lrp.epsilon": Method(),
    "lrp.sequential_preset_a_flat": Method(only_relu=True, first_rule=True),
}


def explain(
    network: keras.Model | Classifier,
    images: Array,
    *,
    method: str = "deep_taylor",
    neuron: str | int | Array = "predicted",
    from_layer: str | None = None,
    batch_size: int = 512,
    engine: str = "innvestigate",
    **options: Any,
) -> Array:
    """Maps of how much each input value spoke for a logit.

    iNNvestigate works in a process of its own, started at the first call (some seconds) and kept warm. A leading
    Rescaling layer is applied to the images beforehand: relevances (Deep Taylor, LRP, input × gradient) are those of
    the rescaled inputs, gradients (gradient, guided backprop, deconvnet) are those by the image itself.

    Args:
        network: Keras 3 network, or a `Classifier`; a softmax at its end is cut off, and said. One with a subclassed
            Model, whose layers can't be seen, is explained as it is, by gradient and input_t_gradient of the native
            engine alone.
        images: (n, h, w, channels) floats in [0, 1].
        method: iNNvestigate's name, one of `methods()`; the native engine has more, `methods("native")`.
        neuron: "predicted" explains each image's largest logit (equal ones share), a class number or (n,)
            class numbers that logit, "all" the sum over all logits.
        from_layer: explain the inputs of this layer instead of the image.
        batch_size: images that are worked on at once.
        engine: "innvestigate", the reference, or "native", which takes more layers, shares relevance out at an `Add`
            and says where it is not conserved: see `advlens.explanations.native`.
        options: the method's own parameters, as `epsilon` of "lrp.epsilon"; `low` and `high` of
            "deep_taylor.bounded" follow from [0, 1] and the Rescaling.
    Returns:
        (n, h, w, channels) float32 of the inputs' shape; (n, d) where `from_layer` takes vectors.
    Raises:
        ValueError: for arguments, layers or options that can't be taken, naming them and what to do.
        RuntimeError: if the worker process died twice over one batch.

    Source: iNNvestigate, Alber et al. 2019; LRP, Bach et al. 2015; Deep Taylor, Montavon et al. 2017; guided
        backpropagation, Springenberg et al. 2015; deconvnet, Zeiler & Fergus 2014; gradient, Simonyan et al. 2014.

    >>> import keras, numpy as np
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> explain(network, np.full((2, 4, 4, 1), 0.5, np.float32), method="gradient").shape
    (2, 4, 4, 1)
    """
    network = network_of(network)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if engine not in ENGINES:
        raise ValueError(f"no engine is called {engine!r}: choose one of {', '.join(ENGINES)}")
    chosen = {"method": method, "neuron": neuron, "from_layer": from_layer, "options": options}
    if engine == "native" or _is_one_function(network, method):
        from advlens.explanations.native.engine import maps_of  # here: the worker process has no Keras 3

        return maps_of(network, images, **chosen, batch_size=batch_size)
    return _by_innvestigate(network, images, **chosen, batch_size=batch_size)


def methods(engine: str = "innvestigate") -> tuple[str, ...]:
    """The names of an engine's methods, also as `explain.methods()`.

    >>> "lrp.z" in methods(), "grad_cam" in methods("native")
    (True, True)
    """
    if engine == "native":
        from advlens.explanations import native

        return tuple(native.METHODS)
    return tuple(METHODS)


explain.methods, explain.evaluate = methods, evaluate  # type: ignore[attr-defined]


def _by_innvestigate(
    network: keras.Model,
    images: Array,
    *,
    method: str,
    neuron: str | int | Array,
    from_layer: str | None,
    options: dict[str, Any],
    batch_size: int,
) -> Array:
    if method not in METHODS:
        raise ValueError(f"no explanation method is called {method!r}: choose one of {', '.join(METHODS)}")
    description = describe(network)
    _check_relu(description, method)
    images = checked_images(images, shape=description.input_shape)
    neuron_mode, neurons = neuron_selection(neuron, n=len(images), num_classes=network.output_shape[-1])
    start = _start(description, from_layer)
    _check_first_layer(description, method, start)
    _warn_of_branches(description, method, start)
    if method == "deep_taylor.bounded":
        options = _bounds(description, start) | options
    request = Request(description.digest(), method, neuron_mode, start, options)
    analyze = functools.partial(worker().analyze, request, description)
    try:
        maps = in_batches(analyze, images, neurons, batch_size, method)
    except Refused as refusal:
        raise ValueError(f"iNNvestigate refused {method!r} with options {options}: {refusal}") from None
    if METHODS[method].gradient and start == IMAGE:
        maps *= description.scale
    return maps


def _is_one_function(network: keras.Model, method: str) -> bool:
    """Whether layers can't be seen, and the method needs none.

    Raises:
        ValueError: where it needs them.
    """
    from advlens.networks.parts import unseen  # here: the worker process has no Keras 3

    hidden = ", ".join(map(repr, unseen(network)))
    if hidden and method not in WITHOUT_LAYERS:
        raise ValueError(
            f"the layers of {hidden} can't be seen, and {method!r} needs them: choose {' or '.join(WITHOUT_LAYERS)}, "
            "which don't, or build the network as Sequential or as keras.Model(inputs, outputs)"
        )
    return bool(hidden)


def _warn_of_branches(description: Description, method: str, start: str) -> None:
    explained = description.between(start, description.output)
    added = [layer.name for layer in description.layers if layer.kind == "Add" and layer.name in explained]
    if added and method.startswith("deep_taylor"):
        warnings.warn(
            f"{method!r} counts relevance once for each branch of {', '.join(added)}: maps add up to more "
            "than the logit",
            stacklevel=3,
        )


def _check_relu(description: Description, method: str) -> None:
    if METHODS[method].only_relu:
        for layer, activation in description.activations():
            if activation != "relu":
                others = ", ".join(name for name, other in METHODS.items() if not other.only_relu)
                raise ValueError(
                    f"layer {layer.name!r} ({layer.kind}) has the activation {activation!r}, but {method!r} "
                    f"takes ReLU only: choose one of {others}"
                )


def _check_first_layer(description: Description, method: str, start: str) -> None:
    """iNNvestigate would leave its rule for the first layer out in silence."""
    first = {start}
    for layer in description.layers if METHODS[method].first_rule else ():
        if first.intersection(layer.inputs):
            if layer.kind in ("Flatten", "Reshape"):
                first.add(layer.name)
            elif layer.kind not in ("Conv2D", "Dense"):
                raise ValueError(
                    f"{method!r} has its own rule for a first convolution or dense layer, but the first is "
                    f"{layer.name!r} ({layer.kind}): choose another method"
                )


def _start(description: Description, from_layer: str | None) -> str:
    """The tensor that the maps are over."""
    if from_layer is None:
        return IMAGE
    inputs = {layer.name: layer.inputs for layer in description.layers}
    if from_layer not in inputs:
        raise ValueError(f"no layer to explain is called {from_layer!r}: choose one of {', '.join(inputs)}")
    if len(inputs[from_layer]) > 1:
        raise ValueError(f"layer {from_layer!r} has {len(inputs[from_layer])} inputs: choose a layer with one")
    return inputs[from_layer][0]


def _bounds(description: Description, start: str) -> dict[str, Any]:
    """Smallest and largest value that the explained inputs can have."""
    if start != IMAGE:
        return {}
    ends = description.offset, description.offset + description.scale
    return {"low": np.minimum(*ends), "high": np.maximum(*ends)}
