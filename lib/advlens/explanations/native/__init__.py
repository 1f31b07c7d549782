"""Explanation maps by TensorFlow alone, which can be differentiated; iNNvestigate's maps where that is right.

What to know of them, next to what `advlens.explanations.explain` says:

- All that leads the network value by value (Rescaling, Normalization, `x / 255`) is applied before: relevances are of
  what it makes, gradients by the image.
- A batch normalisation is taken up by the kernel before it; elsewhere it keeps all relevance, or for the z- and
  ε-rules takes its shift as a bias. iNNvestigate reads the variance as a deviation and leaves γ out of the shift.
- Relevance is shared out at an `Add`, not copied.
- An activation hands its relevance on, whether it is a layer of its own or not. iNNvestigate stops it, for Deep Taylor,
  at a ReLU layer whose output is 0, and for LRP scales it by the slope of a leaky ReLU.
- Where a rule divides by 0, nothing passes. α2β1 with biases has the pole that it has in iNNvestigate, which adds the
  whole bias to either part.
- Layers of other makers have gradients only.
"""

from advlens.explanations.native.engine import explainer
from advlens.explanations.native.methods import METHODS

__all__ = ["METHODS", "explainer"]
