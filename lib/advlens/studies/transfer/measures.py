"""What networks make of attacked images, a row an image."""

from collections.abc import Mapping

import keras
import pandas as pd

from advlens.arrays import Array
from advlens.classifier import Classifier


def misread(networks: Mapping[str, keras.Model], images: Array, labels: Array) -> pd.DataFrame:
    """Whether each network takes (n, h, w, channels) images for another class than their (n,) true one.

    Returns:
        (n rows) of bools, a column a network.
    """
    return pd.DataFrame(
        {name: Classifier(network).predict(images).argmax(axis=1) != labels for name, network in networks.items()}
    )
