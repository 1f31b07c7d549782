"""The deep-k-nearest-neighbours study, its first half: the method, its promise, and the attacks that it sees.

`measures` looks at images, `results` makes figures of that, `report` tells them, `study` ties all to the store.
"""

from advlens.studies.deep_knn.study import Study

__all__ = ["Study"]
