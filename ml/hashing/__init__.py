"""Hashes by which content is known again: of pictures, films and sounds. Pure functions on decoded media."""
