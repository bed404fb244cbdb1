"""Search, and what weighs and shows it: weights, feedback, maps."""
