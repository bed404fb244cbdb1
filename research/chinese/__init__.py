"""Teach a small student to read Chinese as MiniLM reads English: ``python -m research.chinese``."""
