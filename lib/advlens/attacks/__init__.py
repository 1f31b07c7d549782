"""Attacks: the catalogue, `craft`, and those that ART lacks or that run here on whole batches."""

from advlens.attacks.attack_set import AttackSet
from advlens.attacks.catalogue import CATALOGUE, build_attack, craft, find_attack
from advlens.attacks.crafting import CatalogueEntry, built, crafted, generated

__all__ = [
    "CATALOGUE",
    "AttackSet",
    "CatalogueEntry",
    "build_attack",
    "built",
    "craft",
    "crafted",
    "find_attack",
    "generated",
]
