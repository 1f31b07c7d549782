"""The deep-k-nearest-neighbours study, its third part: intermediate level attacks, which it wanted and did not get.

Do they make attacks that fool other networks, and does Deep kNN see them? The layer and the variant are chosen on
validation images; all figures are of others.

Source: the study's report, section 3.2; Huang et al. 2019.
"""

from advlens.studies.transfer.study import Study

__all__ = ["Study"]
