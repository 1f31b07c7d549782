"""Lenses as TensorFlow functions of the images, for an attacker who knows them. The real lens stays the judge.

What the stand-ins are: outputs, largest softmax, pixels, closeness, Mahalanobis and kernel distances, Shapley values,
local dimensionality, shifts and rotations, blanked patches, dropout uncertainty (with the lens's own masks) and
sensitivity to noise (with its own draws) are exact. Natural scene statistics are exact but for shapes, which follow the
slope of their table, and for flat grounds that are not black, where the lens itself goes by the signs of rounding
errors. Feature squeezing and noise reduction have the right values, and gradients as if grey levels were not rounded, a
changed decision none; MagNet's distances are exact, its p-value and subset scanning have the right values, and the
gradients of smooth p-values. Local entropy, relevancy maps, their reconstruction and maps under denoising have the
native maps' values, and gradients of softplus networks, the entropy those of a histogram with blurred levels, a rank
correlation those of the values' own. Deep kNN's p-values are replaced by a smooth share of neighbours with another
label, which rises and falls with them. Joined lenses have what their parts have.
"""

from advlens.lenses.differentiable import maps, outputs, scenes, stability, training_images
from advlens.lenses.differentiable.parts import strangeness
from advlens.lenses.differentiable.registry import Differentiable, differentiable

_ = maps, outputs, scenes, stability, training_images  # each registers its stand-ins
__all__ = ["Differentiable", "differentiable", "strangeness"]
