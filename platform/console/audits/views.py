"""Audits: their list, one with its evidence, and asking for one of a text or an asset."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import problems
from console.access import Request, actor_of, needs, page
from console.audits.labels import DECISIONS, VERDICTS
from console.audits.presenters import audit_summary, credentials_of, viewer_of
from console.forms import StyledForm, style
from console.kept_sentences import translated_sentence
from console.paging import page_of
from ml.media import MediaError
from tenants.accounts.permissions import MODERATE
from tenants.datasets import content_responses, storage
from tenants.datasets import selectors as datasets
from tenants.datasets.models import Asset
from tenants.datasets.resumable import file_of
from tenants.errors import Invalid, NotFound, NotReady, ServiceError
from tenants.jobs.models import Job
from tenants.moderation import reviews
from tenants.moderation.audits import proofs, selectors
from tenants.moderation.models import Audit, AuditRequest, Policy, Review
from tenants.moderation.policies import selectors as policy_selectors
from tenants.pipeline.assets import uploads
from tenants.pipeline.assets.uploads import MAX_TEXT
from tenants.pipeline.audits import audit_requests
from tenants.pipeline.audits.audit_requests import MAX_SUBJECT
from tenants.retrieval.query import decoder


class AuditForm(StyledForm):
    text = forms.CharField(
        required=False,
        strip=False,
        max_length=MAX_TEXT,
        label=gettext_lazy("Text"),
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    subject = forms.CharField(
        required=False,
        max_length=MAX_SUBJECT,
        label=gettext_lazy("Sender"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    # Whether there is one of that id is for the service to say.
    policy = forms.UUIDField(required=False, label=gettext_lazy("Policy"), widget=forms.Select)

    def __init__(self, policies: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", gettext_lazy("The one in effect")), *((str(p.id), p.name) for p in policies)]
        self.fields["policy"].widget = forms.Select(choices=choices)
        style(self.fields["policy"].widget, invalid="policy" in self.errors)

    def refusal(self) -> Invalid:
        """What is wrong, as a service would say it."""
        name, found = next(iter(self.errors.items()))
        return Invalid(" ".join(map(str, found)), pointer=f"/{name}")


PAGE = 25

# Of those that were asked for last, as many are looked at for ones that are not decided yet.
RECENT = 10


@needs(MODERATE, methods=("GET", "POST"), narrowable=("GET",))
def index(request: Request) -> HttpResponse:
    if request.method == "POST":
        return _submit(request)
    return _index(request, None, 200)


def _index(request: Request, form: AuditForm | None, status: int) -> HttpResponse:
    decision, verdict = request.GET.get("decision", ""), request.GET.get("verdict", "")
    decision = decision if decision in DECISIONS else ""
    verdict = verdict if verdict in VERDICTS else ""
    before = request.GET.get("before", "")
    with request.workspace.open():
        rows = selectors.list_audits(decision=decision, verdict=verdict)
        found = page_of(rows, before, PAGE)
        known = list(policy_selectors.list_policies())
        context: dict[str, Any] = {
            "lines": audits_with_assets(found.items),
            "waiting": [] if before or decision or verdict else _pending_requests(),
        }
    context |= {
        "next": found.next,
        "decision": decision,
        "verdict": verdict,
        "decisions": DECISIONS,
        "verdicts": VERDICTS,
        "form": form or AuditForm(known),
        "max_upload": settings.MAX_UPLOAD_BYTES,
    }
    return page(request, "audits.html", context, status=status)


def audits_with_assets(audits: Sequence[Audit]) -> list[dict[str, Any]]:
    """Audits with their assets, as far as these are still there."""
    known = datasets.get_assets([audit.item for audit in audits if audit.item])
    return [
        {"audit": audit, "asset": known.get(audit.item) if audit.item else None}
        for audit in audits
    ]  # fmt: skip


def _pending_requests() -> list[dict[str, Any]]:
    recent = list(AuditRequest.objects.select_related("asset").order_by("-id")[:RECENT])
    decided = set(Audit.objects.filter(pk__in=[row.id for row in recent]).values_list("pk", flat=True))
    return [{"asked": row, "asset": row.asset} for row in recent if row.id not in decided]


def _submit(request: Request) -> HttpResponse:
    """Take one file or text in. Scripts are told the audit's page; a form without script is sent there."""
    with request.workspace.open():
        form = AuditForm(list(policy_selectors.list_policies()), request.POST)
    if form.is_valid():
        try:
            audit_id = _request_audit(request, form)
        except ServiceError as error:
            if problems.wants_json(request):
                raise
            form.refuse(error)
        else:
            address = reverse("console:audit", args=[audit_id])
            if problems.wants_json(request):
                return JsonResponse({"page": address}, status=202)
            return redirect(address)
    if problems.wants_json(request):
        raise form.refusal()
    return _index(request, form, 422)


def _request_audit(request: Request, form: AuditForm) -> uuid.UUID:
    fields: dict[str, Any] = form.cleaned_data
    sent: Any = request.FILES.get("file")
    upload_id, at_most = request.POST.get("upload"), settings.MAX_UPLOAD_BYTES
    with file_of(request.workspace.tenant.id, sent, upload_id, at_most=at_most) as file:
        # Before any transaction: reading, scanning and hashing a film takes seconds.
        upload = uploads.check_upload(file, fields["text"])
        with request.workspace.open():
            asked = audit_requests.request_audit(
                upload=upload,
                subject=fields["subject"],
                policy_id=fields["policy"],
                actor=actor_of(request).label,
            )
            return asked.request.id


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def ask_asset(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    """Audit an asset, again if it was before."""
    with request.workspace.open():
        asked = audit_requests.request_audit(asset_id=asset_id, actor=actor_of(request).label)
    return redirect("console:audit", audit_id=asked.request.id)


@needs(MODERATE, narrowable=("GET",))
def show(request: Request, audit_id: uuid.UUID) -> HttpResponse:
    """One audit; while it is made its job, as a part where htmx asks."""
    with request.workspace.open():
        found = selectors.get_request(audit_id)
        context = _audit_context(request, found) if isinstance(found, Audit) else _pending_context(found)
    if request.headers.get("HX-Request"):
        return page(request, "parts/audit.html", context)
    return page(request, "audit.html", context)


def _pending_context(asked: AuditRequest) -> dict[str, Any]:
    return {
        "asked": asked,
        "asset": asked.asset,
        "job": Job.objects.filter(pk=asked.job_id).first() if asked.job_id else None,
    }


def _audit_context(request: Request, audit: Audit) -> dict[str, Any]:
    asset = _asset_of(audit)
    shape = selectors.audit_shape(audit)
    return {
        "audit": audit,
        "shape": shape,
        "asset": asset,
        "sheet": audit_summary(audit, shape, asset),
        # Rules may name what lies in other datasets.
        "why": None if request.workspace.narrowing else proofs.explain_audit(audit.id),
        "policy_name": _policy_name(shape.policy.id) if shape.policy else "",
        "reviews": list(Review.objects.filter(audit=audit).order_by("id")),
        "appeals": list(reviews.list_appeals(actor=actor_of(request).label, audit_id=audit.id)),
        "window": reviews.appeal_window(audit.id),
        "kept": kept_content(audit.id) is not None,
        "newest": _newer_audit(audit),
        "viewer": viewer_of(shape),
        "credentials": credentials_of(shape),
        "address": _address(audit, asset),
    }


def _address(audit: Audit, asset: Asset | None) -> str:
    """Where the item itself can be seen or heard; empty where it is a text or is not kept."""
    if audit.modality == Asset.Modality.TEXT:
        return ""
    if asset is not None:
        return reverse("console:asset-content", args=[asset.id])
    return reverse("console:audit-content", args=[audit.id]) if kept_content(audit.id) else ""


def _policy_name(policy_id: str) -> str:
    return Policy.objects.filter(pk=policy_id).values_list("name", flat=True).first() or ""


def _asset_of(audit: Audit) -> Asset | None:
    return datasets.get_assets([audit.item]).get(audit.item) if audit.item else None


def _newer_audit(audit: Audit) -> Audit | None:
    """A later audit of the same item, if there is one."""
    return (
        Audit.objects.filter(item=audit.item, pk__gt=audit.pk).order_by("-id").first() if audit.item else None
    )


# --- Pictures and content --------------------------------------------------------------------------------


@needs(MODERATE, narrowable=("GET",))
def picture(request: Request, audit_id: uuid.UUID, picture_id: uuid.UUID) -> HttpResponse:
    """A mask or heat-map that a detector made (PNG)."""
    with request.workspace.open():
        selectors.get_request(audit_id)
        found = selectors.get_picture(audit_id=audit_id, picture_id=picture_id)
        content = bytes(found.content)
    headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
    return HttpResponse(content, content_type="image/png", headers=headers)


def kept_content(audit_id: uuid.UUID) -> AuditRequest | None:
    """The request of an audit without an asset whose content is still kept."""
    return AuditRequest.objects.select_related("blob").filter(pk=audit_id).exclude(blob=None).first()


@needs(MODERATE, narrowable=("GET",))
def content(request: Request, audit_id: uuid.UUID) -> HttpResponseBase:
    """What was audited without being an asset, as long as somebody has to look at it."""
    with request.workspace.open():
        selectors.get_request(audit_id)
        asked = kept_content(audit_id)
    if asked is None or asked.blob is None:
        raise NotFound(_("The content of this audit is no longer kept."))
    blob = asked.blob
    if asked.modality == Asset.Modality.IMAGE and blob.media_type not in content_responses.INLINE:
        return _picture_for_browsers(storage.path_of(blob.tenant_id, blob.sha256))
    return content_responses.serve(
        request,
        content_responses.Rendition(
            path=storage.path_of(blob.tenant_id, blob.sha256),
            media_type=blob.media_type,
            etag=f'"{blob.sha256[:32]}-audit"',
            filename=str(audit_id),
        ),
    )


def _picture_for_browsers(path: str) -> HttpResponse:
    """A picture in a format that no browser shows (HEIC), made into one that all do, without metadata.

    Of an asset that rendition is stored when it is embedded; what is audited only is looked at by few, once or twice.
    """
    try:
        with TemporaryDirectory(dir=settings.SPOOL_DIR) as folder, storage.local(path, Path(folder)) as local:
            picture = decoder().image(local, thumbnail=False)
    except FileNotFoundError as error:
        raise NotFound(_("The content of this audit is no longer kept.")) from error
    except MediaError as error:
        reason = translated_sentence(str(error.message))
        raise NotReady(_("This picture cannot be shown: %(reason)s.") % {"reason": reason}) from error
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": content_responses.CACHE,
    }
    return HttpResponse(picture.clean or b"", content_type=picture.clean_type, headers=headers)


@needs(MODERATE, narrowable=("GET",))
def of_asset(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    """All audits of one asset."""
    with request.workspace.open():
        asset = datasets.get_asset(asset_id)
        found = page_of(selectors.list_audits(asset_id=asset_id), request.GET.get("before", ""), PAGE)
        dataset = datasets.get_dataset(asset.dataset_id)
    lines = [{"audit": audit, "asset": asset} for audit in found.items]
    context = {"asset": asset, "dataset": dataset, "lines": lines, "next": found.next}
    return page(request, "asset_audits.html", context)
