"""Autoencoders that learn clean pictures: what is unlike these they reconstruct badly. Lenses make scores of that."""

from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import layers

from advlens.arrays import Array
from advlens.networks.building import Shape
from advlens.progress import progress

AT_ONCE = 512
Build = Callable[[Shape], keras.Model]


def convolutional_autoencoder(shape: Shape) -> keras.Model:
    """Pictures in [0, 1], averaged to half their sides and back; trained with Gaussian noise on its inputs.

    Source: Meng & Chen 2017, their autoencoder I of digits; it has 3 channels and sigmoids there, and 100 epochs to
    learn in. With 8 channels and ELUs a few epochs do.
    """
    height, width, channels = shape
    half = [layers.Conv2D(8, 3, padding="same", activation="elu", name=f"conv{number}") for number in (1, 2, 3, 4)]
    return keras.Sequential(
        [
            layers.Input(shape),
            layers.GaussianNoise(0.1, name="noise"),
            half[0],
            layers.AveragePooling2D(2, padding="same", name="pool"),
            *half[1:3],
            layers.UpSampling2D(2, name="up"),
            layers.Cropping2D(((0, height % 2), (0, width % 2)), name="crop"),
            half[3],
            layers.Conv2D(channels, 3, padding="same", activation="sigmoid", name="pixels"),
        ],
        name="convolutional_autoencoder",
    )


def dense_autoencoder(shape: Shape) -> keras.Model:
    """Pictures of any scale through a single hidden layer, as in Ko & Lim 2021; of 64 units here."""
    return keras.Sequential(
        [
            layers.Input(shape),
            layers.Flatten(name="flatten"),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(int(np.prod(shape)), name="values"),
            layers.Reshape(shape, name="picture"),
        ],
        name="dense_autoencoder",
    )


def train_autoencoders(
    build: Build,
    pictures: Mapping[str, Array],
    *,
    epochs: int,
    seed: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
) -> dict[str, keras.Model]:
    """Trains an autoencoder for each group of pictures, with Adam on the squared error, all from the same weights.

    Args:
        build: makes the untrained network; pictures: name → (n, h, w, channels) float32, none of them attacked.
    """
    keras.utils.set_random_seed(seed)
    shape = next(iter(pictures.values())).shape[1:]
    network = build(shape)  # pyright: ignore[reportArgumentType]
    network.compile(keras.optimizers.Adam(learning_rate), "mse", jit_compile=False)  # pyright: ignore[reportArgumentType]
    network.optimizer.build(network.trainable_variables)
    variables = [*network.variables, *network.optimizer.variables]
    start, trained = [np.array(each) for each in variables], {}
    for name, own in progress(pictures.items(), description=f"training {network.name}", unit="network"):
        for variable, value in zip(variables, start, strict=True):  # one network for all: each compiles for seconds
            variable.assign(value)
        network.fit(own, own, batch_size=batch_size, epochs=epochs, verbose=0)  # pyright: ignore[reportArgumentType]
        trained[name] = build(shape)  # pyright: ignore[reportArgumentType]
        trained[name].set_weights(network.get_weights())
    return trained


def reconstruct(network: keras.Model, pictures: Array) -> Array:
    """(n, h, w, channels) float32, what an autoencoder makes of as many pictures."""
    parts = [network(pictures[i : i + AT_ONCE], training=False) for i in range(0, len(pictures), AT_ONCE)]
    return np.concatenate(parts).astype(np.float32, copy=False)


def weights_of(networks: Mapping[str, keras.Model]) -> dict[str, Array]:
    """The weights of networks by name, as arrays for plain files."""
    return {
        f"{name} weight {number}": weight
        for name, network in networks.items()
        for number, weight in enumerate(network.get_weights())
    }


def from_weights(build: Build, shape: Shape, arrays: Mapping[str, Array]) -> dict[str, keras.Model]:
    """The networks whose weights `weights_of` gave, by name; other arrays are left alone."""
    networks: dict[str, keras.Model] = {}
    for name in dict.fromkeys(key.split(" weight ")[0] for key in arrays if " weight " in key):
        networks[name] = build(shape)
        count = len(networks[name].get_weights())
        networks[name].set_weights([arrays[f"{name} weight {number}"] for number in range(count)])
    return networks
