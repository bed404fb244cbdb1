"""Errors of the services, in the words that an API or a page shows. Each has a stable slug.

Details are put together in the language of the request; titles are kept in English, and pages translate them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def _(title: str) -> str:
    """Mark a title for the catalogue. Django's own marker needs its settings, and rules are read without any."""
    return title


class ServiceError(Exception):
    """A request that cannot be done; `detail` says why and what to do."""

    slug = "service-error"
    status = 400
    title = _("The request cannot be done")

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class NotFound(ServiceError):
    slug, status, title = "not-found", 404, _("Not found")


class Invalid(ServiceError):
    """A field has a value that cannot be used; `errors` lists pointers and details."""

    slug, status, title = "invalid", 422, _("Some values are not valid")

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.errors = [{"pointer": pointer, "detail": detail}]


class NothingKnown(Invalid):
    """A prompt names nothing that the generator knows."""

    slug, title = "nothing-known", _("Nothing in these words is known")


class Conflict(ServiceError):
    slug, status, title = "conflict", 409, _("In conflict with what exists")


class Held(Conflict):
    """A legal hold keeps what was to be erased or changed (`tenants.datasets.holds`)."""

    slug, title = "legal-hold", _("Under legal hold")


class NotAllowed(ServiceError):
    """The role of who asks does not reach that far, whatever its scopes are."""

    slug, status, title = "not-allowed", 403, _("Not allowed")


class MissingScope(NotAllowed):
    """The key that asks lacks `scope`, which what it asks for would have."""

    slug, title = "missing-scope", _("The key may not do this")

    def __init__(self, detail: str, scope: str) -> None:
        super().__init__(detail, scope=scope)


class NotReady(ServiceError):
    slug, status, title = "not-ready", 409, _("Not ready yet")


class UnsupportedMedia(ServiceError):
    slug, status, title = "unsupported-media-type", 415, _("This kind of file is not accepted")


class TooLarge(ServiceError):
    slug, status, title = "too-large", 413, _("Too large")


class QuotaExceeded(ServiceError):
    slug, status, title = "quota-exceeded", 403, _("Over quota")


class TrialEnded(ServiceError):
    """The trial of the workspace is over: it may be read, and nothing added (`tenants.accounts.trials`)."""

    slug, status, title = "trial-ended", 403, _("The trial has ended")


class CursorExpired(ServiceError):
    slug, status, title = "cursor-expired", 410, _("This cursor has expired")


class StorageFull(ServiceError):
    slug, status, title = "storage-full", 507, _("No space left")

    def __init__(self) -> None:
        from django.utils.translation import gettext

        super().__init__(
            gettext("The disk of this installation is full. Nothing was kept; its operator has to make room.")
        )


class Unavailable(ServiceError):
    slug, status, title = "unavailable", 503, _("Not available at the moment")


class Busy(ServiceError):
    """As many of these requests of a workspace as may are being answered."""

    slug, status, title = "too-many-at-once", 429, _("Too many at once")


class ModelUnavailable(Unavailable):
    """The files of a model are missing, damaged, or out of reach; no other model takes its place."""

    slug, title = "model-unavailable", _("The model of this workspace is not available")


class IndexRebuilding(ServiceError):
    slug, status, title = "index-rebuilding", 503, _("The index is being built")

    def __init__(self) -> None:
        from django.utils.translation import gettext

        super().__init__(
            gettext("The search index of this workspace is being rebuilt. Nothing is lost; try again soon.")
        )


@contextmanager
def room_on_disk() -> Iterator[None]:
    """Turns the operating system's word for a full disk into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from error
        raise
