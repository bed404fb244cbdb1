"""Assets: adding, one with all about it, and what is done with several at once."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, cast

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console import problems
from console.access import Request, actor_of, came_from, needs, page
from console.appeals import about_asset
from console.datasets import documents as viewing
from console.datasets import presenters
from console.datasets.forms import AssetForm, UploadForm
from console.datasets.presenters import read_ids
from console.datasets.views import dataset_page
from console.presenters import asset_card, asset_name
from console.problems import wants_json
from tenants.accounts.permissions import MODERATE, READ, SEARCH, WRITE
from tenants.datasets import content_responses, documents, fields, metadata, resumable, selectors, tus
from tenants.datasets.metadata import expected
from tenants.datasets.models import Asset, Dataset
from tenants.datasets.resumable import file_of, filename_of
from tenants.datasets.values import read_as
from tenants.errors import Invalid, NotFound, ServiceError
from tenants.generation.models import Generation
from tenants.jobs.selectors import job_shape
from tenants.learning.classifiers.scoring import answers_about
from tenants.moderation.audits import selectors as audits
from tenants.pipeline.assets import services, uploads
from tenants.pipeline.audits import audit_requests
from tenants.pipeline.care import erasure
from tenants.retrieval import Query, search
from tenants.shapes import plain

NOUNS = {
    "text": gettext_lazy("text"),
    "image": gettext_lazy("picture"),
    "audio": gettext_lazy("recording"),
    "video": gettext_lazy("film"),
}

AUDITS = 4

NEIGHBOURS = 10

MOST_RETRIED = 500

_BETWEEN_TAGS = re.compile(r"[,;|\n\r，；、]")
_MOMENT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")


def read_moment(text: str) -> str:
    """Seconds, as a media fragment writes them; empty for anything else."""
    return text if _MOMENT.fullmatch(text) else ""


@needs(WRITE, methods=("POST",))
def add(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """Take one file or text in; answers the uploading script with the asset and the job to follow, and a form that
    was sent without it, of several files, with the page and what became of each."""
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
    form = UploadForm(request.POST)
    if not wants_json(request):
        return _add_all(request, dataset_id, form)
    if not form.is_valid():
        raise Invalid(" ".join(map(str, form.errors["metadata"])), pointer="/metadata")
    added = _add(request, dataset_id, form, request.FILES.get("file"), request.POST.get("upload"))
    with request.workspace.open():
        earlier = selectors.get_assets([added.duplicate_of]) if added.duplicate_of else {}
    tile_url = reverse("console:asset-tile", args=[added.asset.id])
    answer = {
        "asset": {"id": str(added.asset.id), "tile": tile_url},
        "job": plain(job_shape(added.job)) if added.job else None,
        "earlier": next(map(_duplicate_as_dict, earlier.values()), None),
        "skipped": not added.created,
    }
    return JsonResponse(answer, status=202 if added.job else 200)


def _add(
    request: Request, dataset_id: uuid.UUID, form: UploadForm, sent: Any, upload_id: str | None = None
) -> services.Added:
    """Raises ServiceError."""
    at_most = settings.MAX_UPLOAD_BYTES
    with file_of(request.workspace.tenant.id, sent, upload_id, at_most=at_most) as file:
        # Before any transaction: reading, scanning and hashing a film takes seconds.
        words = form.cleaned_data["caption" if file else "text"]
        upload = uploads.check_upload(file, words, filename=filename_of(file))
        with request.workspace.open():
            return services.add_asset(
                dataset_id=dataset_id,
                upload=upload,
                values=form.cleaned_data["metadata"],
                actor=actor_of(request).label,
            )


def _add_all(request: Request, dataset_id: uuid.UUID, form: UploadForm) -> HttpResponse:
    """The page with a line for each file and the text, what was refused first."""
    if not form.is_valid():
        raise Invalid(" ".join(map(str, form.errors["metadata"])), pointer="/metadata")
    files: list[Any] = request.FILES.getlist("file")
    sent = [*files, *([None] if form.cleaned_data["text"].strip() or not files else [])]
    results = []
    for file in sent:
        name = file.name if file else form.cleaned_data["text"].strip()
        try:
            added = _add(request, dataset_id, form, file)
        except ServiceError as error:
            results.append(presenters.Uploaded(name, None, error.detail))
        else:
            results.append(presenters.Uploaded(name, added.asset, skipped=not added.created))
    results.sort(key=lambda one: one.asset is not None)
    refused = sum(one.asset is None for one in results)
    shown = {"uploaded": results, "refused": refused, "taken": len(results) - refused}
    return dataset_page(request, dataset_id, shown, 422 if refused == len(results) else 200)


def _duplicate_as_dict(asset: Asset) -> dict[str, str]:
    """The asset of the same content that was there before, as the uploading script names it."""
    title = asset_name(asset, 60, asset.get_modality_display().lower())
    return {"title": title, "url": reverse("console:asset", args=[asset.id])}


@needs(READ, narrowable=("GET",))
def show(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    return _show(request, asset_id, None, 200)


def _show(request: Request, asset_id: uuid.UUID, form: AssetForm | None, status: int) -> HttpResponse:
    with request.workspace.open():
        asset = selectors.get_asset(asset_id)
        shown = selectors.is_shown(asset, request.workspace.scopes)
        transcript = selectors.transcript_of(asset) if shown and asset.blob.details else []
        jobs = presenters.jobs_about(asset)
        context = {
            "asset": asset,
            "dataset": selectors.get_dataset(asset.dataset_id),
            "words": content_responses.read_text(asset) if shown and asset.blob.document is None else "",
            "is_document": documents.is_document(asset.blob.media_type),
            "findings": viewing.findings_of(asset) if shown else [],
            "transcript": transcript,
            "regions": presenters.regions_of(transcript, asset.blob.details),
            "frames": presenters.frames_of(asset.blob.details) if asset.modality == "video" else [],
            "shown": shown,
            "noun": NOUNS[asset.modality],
            "at": read_moment(request.GET.get("t", "")),
            "job": jobs[0] if jobs and asset.status == Asset.State.PENDING else None,
            "audits": _audits(request, asset),
            **about_asset(request, asset),
            "acts": presenters.log_lines(asset, request.workspace.scopes),
            "jobs": jobs,
            "indexed": presenters.vector_counts(asset),
            "generation": _generation(asset),
            "classifiers": answers_about(asset.id),
            "known_tags": _known_tags(asset.dataset_id) if WRITE in request.workspace.scopes else [],
        }
    # A page that is read from storage needs no scope.
    context["viewer"] = viewing.viewer_of(asset, request.GET) if shown else None
    context["form"] = form or AssetForm(initial={"caption": asset.caption, "metadata": _json(asset.metadata)})
    # As they are or as they were typed, and room for one more.
    context["further"] = [*(request.POST.getlist("caption")[1:] if form else asset.more_captions), ""]
    return page(request, "asset.html", context, status=status)


def _known_tags(dataset_id: uuid.UUID) -> list[str]:
    """The frequent tags of a dataset, to choose from."""
    counted = fields.facet_counts(dataset_id, [metadata.TAGS], limit=presenters.OFFERED_TAGS)
    return [tag for tag, _count in counted.get(metadata.TAGS, [])]


def _audits(request: Request, asset: Asset) -> list[object]:
    """The newest, for those who may see them."""
    if MODERATE not in request.workspace.scopes:
        return []
    return list(audits.list_audits(asset_id=asset.id)[:AUDITS])


def _generation(asset: Asset) -> Generation | None:
    """What made it, if that is still there."""
    if asset.generation_id is None:
        return None
    return Generation.objects.filter(pk=asset.generation_id).only("id", "prompt").first()


def _json(metadata: dict[str, object]) -> str:
    from console.templatetags.console_tags import as_json

    return as_json(metadata) if metadata else ""


@needs(SEARCH, narrowable=("GET",))
def neighbours(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    """The nearest assets by its vectors, as a part of its page: itself is not among them."""
    with request.workspace.open():
        asset = selectors.get_asset(asset_id)
    found = []
    if asset.status == Asset.State.READY and asset.moderation not in Asset.HIDDEN:
        query = Query(like=[asset_id], top_k=NEIGHBOURS)
        # A recording without words is ready and has no vectors.
        with suppress(Invalid):
            answer = search(tenant_id=request.workspace.tenant.id, query=query)
            found = [asset_card(one, score=hit.score, matched=hit.modality) for one, hit in answer.results]
    return page(request, "parts/neighbours.html", {"asset": asset, "neighbours": found})


@needs(READ, narrowable=("GET",))
def tile(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        card = asset_card(selectors.get_asset(asset_id))
    return page(request, "parts/tile.html", {"card": card})


@needs(WRITE, methods=("POST",))
def edit(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    form = AssetForm(_with_first_caption(request.POST))
    if form.is_valid():
        try:
            _update(request, asset_id, form.cleaned_data)
            messages.success(request, _("The asset was updated."))
            return redirect("console:asset", asset_id=asset_id)
        except Invalid as error:
            form.refuse(error)
    return _show(request, asset_id, form, 422)


@needs(WRITE, methods=("POST",))
def caption(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    """Set the first caption, from wherever the asset is shown; further ones stay."""
    with request.workspace.open():
        words, actor = request.POST.get("caption", ""), actor_of(request).label
        asset = services.update_asset(asset_id=asset_id, caption=words, actor=actor).asset
    if problems.wants_part(request):
        return page(request, "parts/caption.html", {"asset": asset, "saved": True})
    messages.success(request, _("The caption was saved."))
    return redirect(came_from(request, reverse("console:asset", args=[asset_id])))


def _with_first_caption(sent: QueryDict) -> QueryDict:
    """A form has one field for each caption, all of one name; Django's own field would take the last."""
    first = sent.copy()
    first.setlist("caption", sent.getlist("caption")[:1])
    return first


def _update(request: Request, asset_id: uuid.UUID, given: dict[str, Any]) -> None:
    # A text asset's form has no caption field.
    captions = request.POST.getlist("caption") or None
    with request.workspace.open():
        services.update_asset(
            asset_id=asset_id, captions=captions, values=given["metadata"], actor=actor_of(request).label
        )


@needs(WRITE, methods=("POST",))
def delete(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        dataset_id = selectors.get_asset(asset_id).dataset_id
        erasure.erase_asset(asset_id=asset_id, actor=actor_of(request).label)
    messages.success(request, _("The asset was deleted."))
    return redirect("console:dataset", dataset_id=dataset_id)


@needs(READ, narrowable=("GET",))
def content(request: Request, asset_id: uuid.UUID) -> HttpResponseBase:
    return content_responses.serve(request, content_responses.content_of(_asset(request, asset_id)))


@needs(READ, narrowable=("GET",))
def thumbnail(request: Request, asset_id: uuid.UUID) -> HttpResponseBase:
    return content_responses.serve(request, content_responses.thumbnail_of(_asset(request, asset_id)))


@needs(READ, narrowable=("GET",))
def page_picture(request: Request, asset_id: uuid.UUID, number: int) -> HttpResponseBase:
    """A page of a document."""
    return content_responses.serve_page(request, _asset(request, asset_id), str(number))


def _asset(request: Request, asset_id: uuid.UUID) -> Asset:
    with request.workspace.open():
        asset = selectors.get_asset(asset_id)
        selectors.require_shown(asset, request.workspace.scopes)
        return asset


@needs(WRITE, methods=("POST",))
def begin_upload(request: Request) -> HttpResponse:
    return _reply_response(tus.handle(_tus_request(request, None)))


@needs(WRITE, methods=("HEAD", "PATCH", "DELETE"))
def continue_upload(request: Request, upload_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        resumable.find(upload_id)
    call = _tus_request(request, upload_id)
    if request.method != "PATCH":
        return _reply_response(tus.handle(call))
    length = int(request.headers.get("Content-Length") or 0)
    return _reply_response(tus.receive(call, cast(IO[bytes], request), length))


def _tus_request(request: Request, upload_id: uuid.UUID | None) -> tus.TusRequest:
    base = reverse("console:uploads")
    return tus.TusRequest(request.workspace.tenant.id, str(request.method), base, request.headers, upload_id)


def _reply_response(reply: tus.Reply) -> HttpResponse:
    if reply.status < 400:
        return HttpResponse(status=reply.status, headers=reply.headers)
    slug, title = reply.refusal
    body = {"type": slug, "title": title, "status": reply.status, "detail": reply.detail}
    return JsonResponse(
        body, status=reply.status, headers=reply.headers, content_type="application/problem+json"
    )


@needs(WRITE, methods=("POST",))
def bulk_delete(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request).label
    done = _each(request, dataset_id, lambda one: erasure.erase_asset(asset_id=one, actor=actor))
    if done:
        words = ngettext("%(n)s asset was deleted.", "%(n)s assets were deleted.", done)
        messages.success(request, words % {"n": done})
    return redirect(_list_of(request, dataset_id))


@needs(WRITE, methods=("POST",))
def bulk_describe(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """Set one field of the metadata; an empty value takes it away."""
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
    key, actor = request.POST.get("key", "").strip(), actor_of(request).label
    changes = {key: _value(dataset, key, request.POST.get("value", "").strip())}
    done = _each(
        request,
        dataset_id,
        lambda one: services.update_asset(asset_id=one, changes=changes, actor=actor),
    )
    if done:
        words = ngettext("%(n)s asset was changed.", "%(n)s assets were changed.", done)
        messages.success(request, words % {"n": done})
    return redirect(_list_of(request, dataset_id))


def _value(dataset: Dataset, key: str, text: str) -> object:
    """What was typed, as the type of the field. Raises Invalid."""
    if not key:
        raise Invalid(_("Enter the name of the field to set."), pointer="/key")
    if not text:
        return None
    kind = dataset.metadata_schema.get(key, {}).get("type", "text")
    value = read_as(text, kind)
    if value is None:
        raise Invalid(f"“{text[:40]}”: {expected(kind)}", pointer="/value")
    return value


@needs(WRITE, methods=("POST",))
def bulk_tag(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """Add tags to the ticked assets, and take tags away."""
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
    add, remove = _typed_tags(request, "add"), _typed_tags(request, "remove")
    if not add and not remove:
        raise Invalid(_("Enter a tag to add or remove."), pointer="/add")
    actor = actor_of(request).label
    done = _each(
        request,
        dataset_id,
        lambda one: services.update_asset(asset_id=one, add_tags=add, remove_tags=remove, actor=actor),
    )
    if done:
        words = ngettext("%(n)s asset was changed.", "%(n)s assets were changed.", done)
        messages.success(request, words % {"n": done})
    return redirect(_list_of(request, dataset_id))


def _typed_tags(request: Request, name: str) -> list[str]:
    """What was typed between commas, semicolons or lines. Raises Invalid."""
    typed = ",".join(request.POST.getlist(name))
    return metadata.check_tags(_BETWEEN_TAGS.split(typed), f"/{name}")


def _list_of(request: Request, dataset_id: uuid.UUID) -> str:
    """The list that the form was sent from, as far as it says: its status, order and tag."""
    kept = {
        name: request.POST[name] for name in ("status", "sort", "tag", "finding") if request.POST.get(name)
    }
    address = reverse("console:dataset", args=[dataset_id])
    return f"{address}?{urlencode(kept)}" if kept else address


@needs(WRITE, methods=("POST",))
def tag(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    """Add tags to one asset, or take one away."""
    with request.workspace.open():
        selectors.get_asset(asset_id)
        add, remove = _typed_tags(request, "add"), _typed_tags(request, "remove")
        if not add and not remove:
            raise Invalid(_("Enter a tag to add or remove."), pointer="/add")
        services.update_asset(
            asset_id=asset_id, add_tags=add, remove_tags=remove, actor=actor_of(request).label
        )
    return redirect(f"{reverse('console:asset', args=[asset_id])}#tags")


# One request queues as many as fit into this; the others stay failed, and that is said.
PATIENCE_S = 20.0


@needs(WRITE, methods=("POST",))
def retry(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """Process assets that failed once more: those that are named, or with `all` every one that may be.

    Answers the uploading script with the job to follow, and a form with the list.
    """
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
        rows = Asset.objects.filter(dataset_id=dataset_id)
        if request.POST.get("all"):
            rows = rows.filter(status=Asset.State.FAILED).exclude(moderation__in=Asset.HIDDEN).order_by("id")
        else:
            rows = rows.filter(pk__in=read_ids(request.POST))
        found = list(rows.values_list("pk", flat=True)[:MOST_RETRIED])
    if wants_json(request):
        return _retry_one(request, found)
    actor, until = actor_of(request).label, time.monotonic() + PATIENCE_S
    done = each_of(request, found, lambda one: services.retry_asset(asset_id=one, actor=actor), until=until)
    if done:
        words = ngettext("%(n)s asset is processed again.", "%(n)s assets are processed again.", done)
        messages.success(request, words % {"n": done})
    return redirect(_list_of(request, dataset_id))


def _retry_one(request: Request, found: list[uuid.UUID]) -> HttpResponse:
    if len(found) != 1:
        raise NotFound(_("This asset does not exist."))
    with request.workspace.open():
        job = services.retry_asset(asset_id=found[0], actor=actor_of(request).label).job
    return JsonResponse({"job": plain(job_shape(job)) if job else None}, status=202)


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def bulk_audit(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request).label
    done = _each(request, dataset_id, lambda one: audit_requests.request_audit(asset_id=one, actor=actor))
    if done:
        words = ngettext("%(n)s asset is being audited.", "%(n)s assets are being audited.", done)
        messages.success(request, words % {"n": done})
    return redirect(_list_of(request, dataset_id))


def _each(request: Request, dataset_id: uuid.UUID, act: Callable[[uuid.UUID], object]) -> int:
    """Do it to each of the ticked assets, in a transaction of its own; how many it was done to."""
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
        ticked = read_ids(request.POST)
        found = list(Asset.objects.filter(dataset_id=dataset_id, pk__in=ticked).values_list("pk", flat=True))
    return each_of(request, found, act)


def each_of(
    request: Request,
    found: list[uuid.UUID],
    act: Callable[[uuid.UUID], object],
    until: float = math.inf,
) -> int:
    """The same of these assets, and what was refused or not reached `until` then in words."""
    if not found:
        messages.error(request, _("Select assets first."))
    refused: list[ServiceError] = []
    done = 0
    for asset_id in found:
        if time.monotonic() > until:
            break
        done += 1
        try:
            with request.workspace.open():
                act(asset_id)
        except ServiceError as error:
            refused.append(error)
    if refused:
        words = ngettext(
            "%(n)s asset was left as it is: %(why)s",
            "%(n)s assets were left as they are: %(why)s",
            len(refused),
        )
        messages.error(request, words % {"n": len(refused), "why": refused[0].detail})
    if left := len(found) - done:
        words = ngettext(
            "%(n)s more asset was not reached in time and is unchanged.",
            "%(n)s more assets were not reached in time and are unchanged.",
            left,
        )
        messages.error(request, words % {"n": left})
    return done - len(refused)
