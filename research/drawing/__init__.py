"""The small drawing model: its designs, training and variants."""
