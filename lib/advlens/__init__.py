"""Advlens: can an attack on an image classifier be told from a normal image by how the network decided?

This module loads TensorFlow and ART without their start-up messages; the stages live in its submodules.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator

__version__ = "0.1.0"


@contextlib.contextmanager
def _file_descriptor_2_closed() -> Iterator[None]:
    """Drops what compiled code writes to stderr: TensorFlow logs there before its log level applies."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _file_descriptor_2_closed():
    import tensorflow

# TensorFlow advises against tracing many functions; here each network of many is traced once, as it has to be.
tensorflow.get_logger().setLevel("ERROR")

# ART says at its import that PyTorch, which nothing here uses, is missing.
warnings.filterwarnings("ignore", message="PyTorch not found", category=UserWarning)

# Take a GPU's memory as it is needed: the notebook's process and the explanations' worker share the device.
# And compute products in full float32: TensorFlow's default on recent cards rounds to TF32, off by 8e-3 in logits.
tensorflow.config.experimental.enable_tensor_float_32_execution(False)
for _gpu in tensorflow.config.list_physical_devices("GPU"):
    with contextlib.suppress(RuntimeError):  # raised where the caller has used the GPU before this import
        tensorflow.config.experimental.set_memory_growth(_gpu, True)
