"""The Type I study: attacks that change the digit and not the decision, seen through class activation maps.

`measures` walks and reads, `maps` compares maps, `results` makes figures of that, `report` tells them.
"""

from advlens.studies.type_one.study import Study

__all__ = ["Study"]
