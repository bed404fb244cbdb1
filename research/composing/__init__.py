"""The bank of notes: how it is made."""
