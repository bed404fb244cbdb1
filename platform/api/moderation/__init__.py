"""Audits, reviews, policies, hash lists and the record."""
