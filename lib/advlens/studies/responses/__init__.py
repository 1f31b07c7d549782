"""The feature-response study: does the local entropy of what a network answers to give an attack away?

Two protocols on the same attacks. *As published*: successful attacks against their own originals, thresholds read off
the very same images. *Corrected*: noisy twins among the normal images, splits by source image, the direction and the
settings chosen on validation groups, thresholds committed from clean images that nothing else uses.

Source: Amirian, "Trace and Detect Adversarial Attacks on CNNs using Feature Response Maps", poster 2018; Amirian,
Schwenker & Stadelmann 2018.
"""

from advlens.studies.responses.settings import PUBLISHED_RESPONSE
from advlens.studies.responses.study import Study

__all__ = ["PUBLISHED_RESPONSE", "Study"]
