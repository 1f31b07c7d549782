"""Poisoned data sets: images that an attacker changes or relabels before a network is trained on them."""

from advlens.poisoning.backdoor import trigger
from advlens.poisoning.poisoned_set import CONTROL, KINDS, PoisonedSet, poison_shares, poisoned_set

__all__ = ["CONTROL", "KINDS", "PoisonedSet", "poison_shares", "poisoned_set", "trigger"]
