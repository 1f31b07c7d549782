"""Poisoned training data: the second part of the deep-k-nearest-neighbours study, and what it leaves open.

`measures` trains on poison and judges, `rankings` looks for it, `results` makes figures of that, `report` tells them.
"""

from advlens.studies.poisoning.study import Study

__all__ = ["Study"]
