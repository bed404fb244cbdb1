"""Training: the loop, what it learns (objectives), its data as streams, its measures. torch is imported inside functions."""
