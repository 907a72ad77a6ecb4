"""Sets that others have published: the files they lie in, and what the numbers in these mean."""
