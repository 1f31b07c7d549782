"""Generators: networks between images and a latent space in which an image's class is read, and can be changed."""

from advlens.generative.generator import Generator, train_generator

__all__ = ["Generator", "train_generator"]
