"""Streams in: items that arrive one by one, over a long request or from a broker, and become assets in batches."""
