"""What a refusal looks like: a page, a part for htmx, or problem JSON for the uploading script."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from console.kept_sentences import translated_sentence
from ml.media import MediaError
from tenants.errors import Invalid, ServiceError, TooLarge, Unavailable, UnsupportedMedia

# When to try again, of what is away for a moment.
AGAIN_S = "5"

_MEDIA = {"unsupported": UnsupportedMedia, "too-large": TooLarge, "decoder-died": Unavailable}


def wants_json(request: HttpRequest) -> bool:
    return "application/json" in request.headers.get("Accept", "")


def wants_part(request: HttpRequest) -> bool:
    """Whether a script asked, for which a whole page would be of no use."""
    return wants_json(request) or request.headers.get("HX-Request") == "true"


def answer(request: HttpRequest, error: ServiceError) -> HttpResponse:
    """Show a service's refusal in the words that it came with."""
    if wants_part(request):
        return _part(request, error)
    return render(request, "console/problem.html", {"problem": error}, status=error.status)


def away(request: HttpRequest) -> HttpResponse:
    """The database or the cache does not answer: nothing here may ask them for anything."""
    if wants_part(request):
        error = Unavailable(_("The database does not answer at the moment. Try again in a few seconds."))
        response = _part(request, error)
    else:
        again = request.get_full_path() if request.method in ("GET", "HEAD") else ""
        response = HttpResponse(render_to_string("503.html", {"again": again}), status=Unavailable.status)
    response["Retry-After"] = AGAIN_S
    return response


def _part(request: HttpRequest, error: ServiceError) -> HttpResponse:
    """A refusal for a script."""
    if wants_json(request):
        return JsonResponse(as_problem(error), status=error.status, content_type="application/problem+json")
    response = HttpResponse(
        render_to_string("console/parts/problem.html", {"problem": error}), status=error.status
    )
    response["HX-Retarget"], response["HX-Reswap"] = "#problem", "innerHTML"
    return response


def as_problem(error: ServiceError) -> dict[str, object]:
    fields = getattr(error, "errors", None)
    shape = {"type": error.slug, "title": _(error.title), "status": error.status, "detail": error.detail}
    return {**shape, "errors": fields} if fields else shape


def of_media(error: MediaError) -> ServiceError:
    """A file that cannot be decoded, as a refusal of the request that brought it."""
    kind = _MEDIA.get(error.code, Invalid)
    return kind(translated_sentence(str(error.message)))


def network_not_allowed(request: HttpRequest, workspace: str) -> HttpResponse:
    address = request.META.get("REMOTE_ADDR", "")
    detail = _("%(name)s cannot be opened from %(address)s.") % {
        "name": workspace,
        "address": address or "?",
    }
    title = _("Network not allowed")
    if wants_part(request):
        body = {"type": "network-not-allowed", "title": title, "status": 403, "detail": detail}
        return JsonResponse(body, status=403, content_type="application/problem+json")
    return render(request, "console/network.html", {"detail": detail}, status=403)


def forbidden(request: HttpRequest, scope: str) -> HttpResponse:
    if wants_json(request):
        detail = _("Your role lacks the permission “%(scope)s”.") % {"scope": scope}
        body = {"type": "forbidden", "title": _("Not allowed"), "status": 403, "detail": detail}
        return JsonResponse(body, status=403, content_type="application/problem+json")
    return render(request, "403.html", {"needed_scope": scope}, status=403)
