"""Audits of assets and of other content: asked for, examined, decided by policy, and what a decision does."""
