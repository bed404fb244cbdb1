"""The job of an import."""

from __future__ import annotations

from tenants.jobs import services as jobs


def run_import(claimed: jobs.Claim) -> None:
    raise NotImplementedError
