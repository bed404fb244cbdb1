"""Distilling small text towers, and measuring the bundled INT8 files."""
