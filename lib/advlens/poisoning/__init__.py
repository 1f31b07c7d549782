"""Poisoned data sets: images that an attacker changes or relabels before a network is trained on them."""

from advlens.poisoning.backdoor import trigger
from advlens.poisoning.poisoned_set import KINDS, PoisonedSet, poisoned_set

__all__ = ["KINDS", "PoisonedSet", "poisoned_set", "trigger"]
