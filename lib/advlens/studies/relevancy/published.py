"""What the study published: accuracies on MNIST."""

# The accuracies on the slides; the two variants' (79.0 and 50.0 %) are given there without an attack.
PUBLISHED_ACCURACY = {
    ("input", "lbfgs"): "94.4 %",
    ("input", "deepfool"): "98.16 %",
    ("input", "gradient"): "97 %",
    ("relevancy", "lbfgs"): "60.8 %",
    ("relevancy", "deepfool"): "70.29 %",
    ("relevancy", "gradient"): "79.2 %",
}
VARIANT_ACCURACY = {
    "relevancy, VGG-like": "79.0 % (attack not said)",
    "relevancy, last layer": "50.0 % (attack not said)",
}
NOT_PUBLISHED = "–"


def published_value(dataset: str, lens: str, attack: str) -> str:
    """What the slides say, which is of MNIST alone; a dash where they say nothing."""
    if dataset != "mnist":
        return NOT_PUBLISHED
    return PUBLISHED_ACCURACY.get((lens, attack), VARIANT_ACCURACY.get(lens, NOT_PUBLISHED))
