"""Which detectors look, with which settings, and the one examiner of this process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

from ml.auditing import Examiner, load_or_placeholder
from ml.detectors.base import Detector
from tenants.accounts import installation_secrets
from tenants.generation import signing_keys
from tenants.moderation.policies import selectors as installed
from tenants.retrieval.query import once


@once
def examiner() -> Examiner:
    return Examiner(
        settings.AUDIT_MEMORY_BYTES, children=settings.AUDIT_CHILDREN, device=settings.AUDIT_DEVICE
    )


@cache
def standard() -> tuple[str, ...]:
    """Every detector that needs no argument, and those that this installation was given."""
    return tuple(found.spec for found in installed.installed_detectors())


def specs_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The detectors that a policy asks for, all where it names none. One that is not here is not asked."""
    wanted = document.get("detectors")
    return tuple(spec for spec in wanted if spec in standard()) if wanted else standard()


def options_of(document: Mapping[str, Any]) -> dict[str, object]:
    """What detectors are told: the policy's own settings, and this installation's keys."""
    own = {
        "watermark_key": watermark_key(),
        "own_anchors": signing_keys.own_anchors(),
        "time_stamp_anchors": signing_keys.time_stamp_anchors(),
    }
    return {**document.get("options", {}), **own}


@cache
def watermark_key() -> str:
    """The installation's key for its invisible mark, which outlives a change of SECRET_KEY."""
    lasting = installation_secrets.lasting_secret()
    return salted_hmac("crosslight.watermark", "", secret=lasting, algorithm="sha256").hexdigest()


def catalogue() -> list[dict[str, object]]:
    """Every detector that a policy may ask for: what it sees, what it is blind to, whether it can run here."""
    return [_described(spec, load_or_placeholder(spec)) for spec in standard()]


def _described(spec: str, detector: Detector) -> dict[str, object]:
    return {
        "name": spec,
        "version": detector.version,
        "tier": detector.tier,
        "modalities": sorted(detector.modalities),
        "categories": list(detector.categories),
        "estimates": detector.estimates or None,
        "looks_for": list(detector.looks_for),
        "sees": detector.sees,
        "blind_to": detector.blind_to,
        "timeout_s": detector.timeout_s,
        "missing": detector.missing() or None,
    }
