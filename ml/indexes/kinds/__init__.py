"""Approximate indexes over a file of vectors, one a file: the file name is the id. The contract is ``base.Kind``."""
