"""Training: the loop, what it learns (objectives), data as streams, measures. torch is imported inside functions."""
