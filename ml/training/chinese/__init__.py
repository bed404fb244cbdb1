"""Teach a small student to read Chinese as MiniLM reads English: ``python -m ml.training.chinese``."""
