"""Advlens: can an attack on an image classifier be told from a normal image by how the network decided?

This module quiets TensorFlow's start-up messages and holds the version; the stages live in its submodules.
"""

import os

# Set before TensorFlow's first import, so that no notebook output holds its start-up messages.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
