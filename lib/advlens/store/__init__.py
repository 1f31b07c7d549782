"""The artifact store: what a run computes once, kept in plain files under a key of declared versions and content."""

from advlens.store.files import DamagedArtifactError, storable
from advlens.store.keys import digest
from advlens.store.makers import artifact, versioned
from advlens.store.store import READS, Store

__all__ = ["READS", "DamagedArtifactError", "Store", "artifact", "digest", "storable", "versioned"]
