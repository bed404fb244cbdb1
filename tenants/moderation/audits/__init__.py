"""Audits: what was seen of an item, as the document that rules read, and reading what was decided."""
