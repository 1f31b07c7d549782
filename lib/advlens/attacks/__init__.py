"""Attacks: the catalogue, `craft`, and those that ART lacks or that run here on whole batches."""

from advlens.attacks.attack_set import AttackSet
from advlens.attacks.catalogue import CATALOGUE, build_attack, craft, find_attack, generated

__all__ = ["CATALOGUE", "AttackSet", "build_attack", "craft", "find_attack", "generated"]
