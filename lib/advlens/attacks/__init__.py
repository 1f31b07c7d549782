"""Attacks: the catalogue, `craft`, and those that ART lacks or that run here on whole batches."""

from advlens.attacks.attack_set import AttackSet
from advlens.attacks.catalogue import CATALOGUE, build_attack, craft, find_attack, names, strengths_of
from advlens.attacks.crafting import CatalogueEntry, attack_images, build, generate

__all__ = [
    "CATALOGUE",
    "AttackSet",
    "CatalogueEntry",
    "attack_images",
    "build",
    "build_attack",
    "craft",
    "find_attack",
    "generate",
    "names",
    "strengths_of",
]
