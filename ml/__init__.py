"""The pure library: encoders, indexes, media decoding, alignment. No Django, no queue, no tenants."""
