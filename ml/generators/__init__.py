"""Words to picture, moving picture and music; whatever leaves here is marked as made."""
