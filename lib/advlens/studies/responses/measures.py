"""What is measured of every image: the entropy of its responses under every setting compared."""

import dataclasses
import itertools
from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.explanations.entropy import average_local_entropy
from advlens.explanations.responses import responses
from advlens.store import artifact
from advlens.studies.responses.settings import ResponseEntropy


@artifact(version=1)
def entropies(network: keras.Model, images: Array, *, compared: Sequence[ResponseEntropy]) -> pd.DataFrame:
    """(n, len(compared)) average local entropies in bits, a column a setting by its name.

    Args:
        images: (n, h, w, channels) in [0, 1].
    """
    columns = {}
    ordered = sorted(compared, key=_response)
    for (method, of), group in itertools.groupby(ordered, key=_response):
        maps = responses(network, images, method=method, of=of)
        for setting in group:
            options = dataclasses.asdict(setting)
            how = {name: options[name] for name in ("window", "bins", "stride", "normalisation")}
            columns[setting.name] = average_local_entropy(maps, **how)
    return pd.DataFrame(columns)[[setting.name for setting in compared]]


def _response(setting: ResponseEntropy) -> tuple[str, str]:
    return setting.method, setting.of


def decisions(classifier: Classifier, images: Array, labels: Array) -> pd.DataFrame:
    """What the network says of (n, h, w, channels) images of (n,) true classes.

    Returns:
        Columns predicted, softmax (of the predicted class) and truth_softmax (of the true one).
    """
    probabilities = softmax(classifier.logits(images).astype(np.float64), axis=1)
    return pd.DataFrame(
        {
            "predicted": probabilities.argmax(axis=1),
            "softmax": probabilities.max(axis=1),
            "truth_softmax": probabilities[np.arange(len(labels)), labels],
        }
    )
