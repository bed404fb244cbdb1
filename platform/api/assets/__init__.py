"""Datasets, assets, their contents and uploads, erasure."""
