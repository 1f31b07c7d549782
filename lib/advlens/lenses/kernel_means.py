"""The lens of the kernel two-sample test: how far a single image is from the training images of its class."""

from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_images, checked_labels, checked_seed, checked_whole
from advlens.classifier import Classifier, checked_classifier
from advlens.lenses.base import Lens, fit_first
from advlens.metrics.two_samples import gaussian_kernel, median_distance
from advlens.random import stream
from advlens.store import versioned


@versioned(1)
class KernelMeans(Lens):
    """Squared maximum mean discrepancy between an image and training images t of the class decided for.

    1 − 2 meanₜ k(x, t) + meanₜₜ′ k(t, t′): minus twice the witness function but for a constant of the class.

    Args:
        classifier: the task network; reference: how many training images are compared with; seed: of which.

    Source: Gretton et al. 2012; Grosse et al. 2017 test groups of images, see `metrics.two_samples`.
    """

    name, family, columns = "kernel means", "closeness", ("squared MMD",)

    def __init__(self, classifier: Classifier, *, reference: int = 2000, seed: int = 0) -> None:
        self.classifier, self.seed = checked_classifier(classifier), checked_seed(seed)
        self.reference = checked_whole(reference, name="reference", least=2)

    def fit(self, images: Array, labels: Array) -> "KernelMeans":
        """Draws the reference images."""
        images = checked_images(images, shape=self.classifier.input_shape)
        labels = checked_labels(labels, n=len(images), num_classes=self.classifier.nb_classes)
        order = np.sort(stream(self.seed, "lenses/kernel means").permutation(len(images))[: self.reference])
        return self.take_over({"images": images[order], "labels": labels[order]})

    def take_over(self, arrays: dict[str, Array]) -> "KernelMeans":
        """As `fit`, from what `fitted` gave."""
        self.images_, self.labels_ = arrays["images"], arrays["labels"]
        self.bandwidth_ = median_distance(self.images_)
        members = np.eye(self.classifier.nb_classes)[self.labels_]  # of a class without images: the distance is 1
        self.shares_ = members / np.maximum(members.sum(axis=0), 1)
        own = gaussian_kernel(self.images_, self.images_, self.bandwidth_)
        self.within_ = (self.shares_ * (own @ self.shares_)).sum(axis=0)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """In [0, 2].

        Raises:
            RuntimeError: before `fit`.
        """
        fit_first(self, "images_")
        decided = self.classifier.logits(images).argmax(axis=1)
        similarity = gaussian_kernel(np.asarray(images), self.images_, self.bandwidth_) @ self.shares_
        own = np.take_along_axis(similarity, decided[:, None], axis=1)[:, 0]
        return pd.DataFrame({self.columns[0]: 1 - 2 * own + self.within_[decided]})

    def fitted(self) -> dict[str, Array]:
        """The reference images and their classes."""
        return {"images": self.images_, "labels": self.labels_} if hasattr(self, "images_") else {}

    def to_parts(self) -> dict[str, Any]:
        """The network and the reference images."""
        return {"network": self.classifier.model} | self.fitted()
