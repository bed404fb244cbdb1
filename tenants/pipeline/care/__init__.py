"""What is removed, and the proof of it: assets, what names a person, what is too old, whole tenants."""
