"""The four networks of a generator, each between images, latent vectors and logits."""

import keras
from keras import layers

from advlens.networks.building import Shape

POOLED = 4  # how much smaller an image's sides are where the encoder ends and the decoder begins


def encoder(input_shape: Shape, latent: int) -> keras.Model:
    """(n, h, w, channels) images in [0, 1] → (n, 2, latent): means and standard deviations of latent vectors."""
    image = layers.Input(input_shape)
    x = image
    for filters, strides in ((16, 1), (32, 2), (32, 1), (64, 2)):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", activation="elu")(x)
    x = layers.Dense(128, activation="tanh")(layers.Flatten()(x))
    spread = layers.Dense(latent, activation="softplus", name="spread")(x)
    both = layers.Concatenate()([layers.Dense(latent, name="mean")(x), spread])
    return keras.Model(image, layers.Reshape((2, latent))(both), name="encoder")


def decoder(output_shape: Shape, latent: int) -> keras.Model:
    """(n, latent) → (n, h, w, channels) logits of pixels, whose sides are multiples of `POOLED`."""
    height, width, channels = output_shape
    small = (height // POOLED, width // POOLED, 64)
    z = layers.Input((latent,))
    x = layers.Dense(128, activation="elu")(z)
    x = layers.Dense(small[0] * small[1] * small[2], activation="elu")(x)
    x = layers.Reshape(small)(x)
    for filters in (32, 32):
        x = layers.UpSampling2D(2, interpolation="bilinear")(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="elu")(x)
    x = layers.Conv2D(16, 3, padding="same", activation="elu")(x)
    return keras.Model(z, layers.Conv2D(channels, 3, padding="same", name="pixels")(x), name="decoder")


def latent_classifier(latent: int, num_classes: int) -> keras.Model:
    """(n, latent) → (n, num_classes) logits."""
    hidden = [layers.Dense(units, activation="elu") for units in (256, 128)]
    return keras.Sequential([layers.Input((latent,)), *hidden, layers.Dense(num_classes)], name="latent_classifier")


def discriminator(latent: int) -> keras.Model:
    """(n, latent) → (n, 1) logits of being an image's latent vector rather than noise."""
    hidden = [layers.Dense(units, activation="elu") for units in (256, 128, 64)]
    return keras.Sequential([layers.Input((latent,)), *hidden, layers.Dense(1)], name="discriminator")
