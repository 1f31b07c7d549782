"""Advlens: can an attack on an image classifier be told from a normal image by how the network decided?

What most users need are the names below, which load their stage when they are first used. Importing the package starts
TensorFlow without its messages, and nothing else.

>>> import advlens as al
>>> "deep_knn" in al.detectors.names()
True
"""

import contextlib as _contextlib
import importlib as _importlib
import os as _os
import warnings as _warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advlens import attacks, datasets, detectors
    from advlens.attacks import craft
    from advlens.benchmark import evaluate, leaderboard
    from advlens.classifier import Classifier
    from advlens.explanations import explain
    from advlens.guard import Guard, fit

__version__ = "0.1.0"
_NAMES = {
    "Classifier": ("advlens.classifier", "Classifier"),
    "Guard": ("advlens.guard", "Guard"),
    "attacks": ("advlens.attacks", None),
    "craft": ("advlens.attacks", "craft"),
    "datasets": ("advlens.datasets", None),
    "detectors": ("advlens.detectors", None),
    "evaluate": ("advlens.benchmark", "evaluate"),
    "explain": ("advlens.explanations", "explain"),
    "fit": ("advlens.guard", "fit"),
    "leaderboard": ("advlens.benchmark", "leaderboard"),
}
__all__ = ["Classifier", "Guard", "attacks", "craft", "datasets", "detectors"]
__all__ += ["evaluate", "explain", "fit", "leaderboard"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"advlens has no {name!r}: its names are {', '.join(_NAMES)}")
    module, member = _NAMES[name]
    found = _importlib.import_module(module)
    return found if member is None else getattr(found, member)


def __dir__() -> list[str]:
    return sorted([*_NAMES, "__version__"])


@_contextlib.contextmanager
def _file_descriptor_2_closed() -> Any:
    """Drops what compiled code writes to stderr: TensorFlow logs there before its log level applies."""
    saved = _os.dup(2)
    nowhere = _os.open(_os.devnull, _os.O_WRONLY)
    _os.dup2(nowhere, 2)
    try:
        yield
    finally:
        _os.dup2(saved, 2)
        _os.close(saved)
        _os.close(nowhere)


_os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _file_descriptor_2_closed():
    import tensorflow as _tensorflow

# TensorFlow advises against tracing many functions; here each network of many is traced once, as it has to be.
_tensorflow.get_logger().setLevel("ERROR")

# ART says at its import that PyTorch, which nothing here uses, is missing.
_warnings.filterwarnings("ignore", message="PyTorch not found", category=UserWarning)

# Take a GPU's memory as it is needed: the notebook's process and the explanations' worker share the device.
# And compute products in full float32: TensorFlow's default on recent cards rounds to TF32, off by 8e-3 in logits.
_tensorflow.config.experimental.enable_tensor_float_32_execution(False)
for _gpu in _tensorflow.config.list_physical_devices("GPU"):
    with _contextlib.suppress(RuntimeError):  # raised where the caller has used the GPU before this import
        _tensorflow.config.experimental.set_memory_growth(_gpu, True)
