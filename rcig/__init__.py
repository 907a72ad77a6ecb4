"""Distil a dataset into a handful of images, and trust and reproduce every number about it."""

__version__ = "0.1.0"
