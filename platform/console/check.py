"""Whether a file was made here: a page for anybody, without an account and without a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.utils.dateparse import parse_date
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.csrf import csrf_protect

from console.access import page, public
from console.generations.labels import HOW
from tenants.accounts.api_admission import ADMISSION, Rate
from tenants.errors import Invalid, ServiceError, Unavailable
from tenants.pipeline.audits import public_check, shapes

KINDS = {
    "picture": gettext_lazy("Picture"),
    "clip": gettext_lazy("Clip"),
    "sound": gettext_lazy("Sound"),
}
SIGNS = {
    "credentials": gettext_lazy(
        "It holds signed content credentials of this installation and is unchanged since."
    ),
    "changed-credentials": gettext_lazy(
        "It holds signed content credentials of this installation, but for other content: it was changed since, or "
        "they come from another file."
    ),
    "picture-mark": gettext_lazy("Its picture carries the invisible mark of this installation."),
    "sound-mark": gettext_lazy("Its sound carries the inaudible mark of this installation."),
}
HOW_OF = {"trainedAlgorithmicMedia": "model", "algorithmicMedia": "rules", "compositeSynthetic": "layout"}
TIME_STAMPS = {
    "trusted": gettext_lazy(
        "Signed in %(month)s at the latest, as an authority that is trusted here confirms."
    ),
    "unknown-authority": gettext_lazy(
        "Signed in %(month)s at the latest, as an authority confirms that is not known here."
    ),
    "invalid": gettext_lazy("It has a time stamp that does not fit its signature."),
}
RETRY_S = "5"


class TooOften(ServiceError):
    """A network has had its checks of this minute."""

    slug, status, title = "rate-limited", 429, "Too many requests"

    def __init__(self, rate: Rate) -> None:
        self.wait_s = rate.reset_s
        text = ngettext(
            "Your network has checked as many files as it may in a minute. Wait %(count)s second, then try again.",
            "Your network has checked as many files as it may in a minute. Wait %(count)s seconds, then try again.",
            rate.reset_s,
        )
        super().__init__(text % {"count": rate.reset_s})


@dataclass(frozen=True)
class Result:
    """An answer in the words of the page."""

    made_here: str
    signs: list[Any]
    kind: Any
    model: str
    month: str
    how: Any
    time_stamp: str
    manifest: shapes.PublicManifest | None


# The form has its token, which `_checked` asks for: reading it reads the file, and who comes too often sends none.
@public(methods=("GET", "POST"), from_elsewhere=True)
def show(request: HttpRequest) -> HttpResponse:
    if not settings.PUBLIC_CHECK:
        raise Http404
    if request.method != "POST":
        return _answer(request)
    try:
        _admit(request)
        return _checked(request)
    except ServiceError as error:
        return _refused(request, error)


def _admit(request: HttpRequest) -> None:
    """Called again, once a large body is here, it is still one request. Raises TooOften."""
    admission = request.META.get(ADMISSION) or public_check.admit(request.META.get("REMOTE_ADDR", ""))
    request.META[ADMISSION] = admission
    if admission.rate is not None and admission.rate.exceeded:
        raise TooOften(admission.rate)


def _checked(request: HttpRequest) -> HttpResponse:
    try:
        return _check(request)
    except (MultiPartParserError, SuspiciousOperation, UnreadablePostError) as error:
        raise Invalid(_("The form could not be read. Reload the page and send one file.")) from error


@csrf_protect
def _check(request: HttpRequest) -> HttpResponse:
    files = request.FILES.getlist("file")
    if len(files) > 1 or any(name != "file" for name in request.FILES):
        raise Invalid(_("Choose one file; several cannot be checked at once."))
    if not files:
        raise Invalid(_("Choose a file first."))
    return _answer(request, result=_in_words(public_check.check_file(files[0])))


def _in_words(found: shapes.PublicCheck) -> Result:
    actions = (
        [action for one in found.manifest.assertions for action in one.actions] if found.manifest else []
    )
    how = HOW_OF.get(str(actions[0].digital_source_type)) if actions else None
    day = parse_date(f"{found.month}-01") if found.month else None
    return Result(
        made_here=found.made_here,
        signs=[SIGNS[sign] for sign in found.signs],
        kind=KINDS[found.kind],
        model=found.model or "",
        month=date_format(day, "YEAR_MONTH_FORMAT") if day else "",
        how=HOW[how] if how else "",
        time_stamp=_time_stamp(found.manifest),
        manifest=found.manifest,
    )


def _time_stamp(manifest: shapes.PublicManifest | None) -> str:
    if manifest is None or manifest.time_stamp is None:
        return ""
    month = manifest.time_stamp.month
    day = parse_date(f"{month}-01") if month else None
    said = str(TIME_STAMPS[manifest.time_stamp.state])
    return said % {"month": date_format(day, "YEAR_MONTH_FORMAT") if day else "–"}


def _refused(request: HttpRequest, error: ServiceError) -> HttpResponse:
    response = _answer(request, problem=error.detail, status=error.status)
    if isinstance(error, TooOften):
        response["Retry-After"] = str(error.wait_s)
    elif isinstance(error, Unavailable):
        response["Retry-After"] = RETRY_S
    return response


def _answer(
    request: HttpRequest, *, result: Result | None = None, problem: str = "", status: int = 200
) -> HttpResponse:
    context = {"result": result, "problem": problem, "mib": settings.PUBLIC_CHECK_BYTES // 2**20}
    return page(request, "check.html", context, status=status)
