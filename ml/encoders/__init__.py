"""Encoders, one a file: the file name is the id. Start at ``base.load_encoder``."""
