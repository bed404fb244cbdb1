"""What this installation can ask to look: every detector of the catalogue, and those that its operator configured."""

from __future__ import annotations

import logging
from functools import cache

from django.conf import settings

from ml.detectors.base import CATALOG, load_detector
from tenants.moderation.checking import Installed, Surroundings
from tenants.moderation.models import HashList, SharedHashList

log = logging.getLogger(__name__)

# These need an argument, which only the operator gives (AUDIT_DETECTORS).
CONFIGURED = ("hf-", "onnx-")


@cache
def detectors() -> tuple[Installed, ...]:
    """Loads no weights; what was installed since the process began is not seen."""
    own = [name for name in CATALOG.ids() if not name.startswith(CONFIGURED)]
    return tuple(map(_installed, dict.fromkeys((*own, *settings.AUDIT_DETECTORS))))


def _installed(spec: str) -> Installed:
    try:
        detector = load_detector(spec)
        return Installed(spec, tuple(detector.categories), detector.missing(), detector.estimates)
    except Exception as error:
        log.warning("a detector cannot be loaded", extra={"spec": spec}, exc_info=True)
        return Installed(spec, (), f"It cannot be loaded ({type(error).__name__}).")


def surroundings() -> Surroundings:
    """What a policy of the active tenant may refer to."""
    lists = {str(value) for row in HashList.objects.values_list("id", "name") for value in row}
    shared = {str(value) for row in SharedHashList.objects.values_list("id", "name") for value in row}
    return Surroundings(detectors(), lists | shared)
