"""Keys, people, usage and what a key may do."""
