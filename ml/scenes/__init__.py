"""Scenes of several things: what a prompt names (``words``), and how that is laid out and painted (``composing``)."""
