"""Type I attacks as an attack set, so that whatever looks at attacks can look at these."""

import numpy as np

from advlens.arrays import Array, checked_images, checked_labels, checked_seed
from advlens.attacks.attack_set import AttackSet
from advlens.attacks.crafting import without_gradient
from advlens.attacks.noise import gaussian_twin
from advlens.classifier import Classifier, checked_classifier, logit_margins


def type_one_set(
    classifier: Classifier,
    judge: Classifier,
    images: Array,
    labels: Array,
    adversarial: Array,
    aims: Array,
    *,
    source: Array,
    seed: int,
    **parameters: float | int | bool,
) -> AttackSet:
    """What a Type I attack made of images, with their noisy twins.

    Args:
        classifier: the attacked network; judge: another one, which says what an image shows.
        images: (n, h, w, channels) in [0, 1], which the classifier gets right; labels: (n,) true classes.
        adversarial: (n, h, w, channels) in [0, 1]; aims: (n,) what they are to show.
        source: (n,) the images' places in the test set; seed: of the noisy twins.
        parameters: of the attack, for the record.
    Returns:
        An attack set whose target is the aim, and whose success means that the classifier still decides for the label
        while the judge sees the aim.
    Raises:
        ValueError: for bad images, labels, aims or seeds, or images that the classifier gets wrong.
    """
    images = checked_images(images, shape=checked_classifier(classifier).input_shape)
    adversarial = checked_images(adversarial, shape=classifier.input_shape)
    labels, aims = (checked_labels(each, n=len(images), num_classes=classifier.nb_classes) for each in (labels, aims))
    if len(adversarial) != len(images) or (labels == aims).any():
        raise ValueError("adversarial images and aims must be one for each image, and no aim its own label")
    wrong = int((classifier.predict(images).argmax(axis=1) != labels).sum())
    if wrong:
        raise ValueError(f"{wrong} of {len(images)} images are misclassified as they are: attack only correct ones")
    perturbation = (adversarial - images).reshape(len(images), -1)
    l2 = np.linalg.norm(perturbation, axis=1)
    logits, shown = classifier.predict(adversarial), judge.predict(adversarial).argmax(axis=1)
    predicted = logits.argmax(axis=1)
    return AttackSet(
        attack="type_one",
        parameters=parameters,
        source=np.asarray(source, np.int64),
        clean=images,
        noisy=gaussian_twin(images, l2, rng=np.random.default_rng(checked_seed(seed))),
        adversarial=adversarial,
        label=labels,
        target=aims,
        predicted=predicted,
        success=(predicted == labels) & (shown == aims),
        margin=logit_margins(logits, labels).astype(np.float32),
        l2=l2.astype(np.float32),
        linf=np.abs(perturbation).max(axis=1).astype(np.float32),
        zero_gradient=without_gradient(classifier, images, labels),
    )
