"""What waits for somebody in the demo: items that a policy sends to a person, among them a picture that was changed
after it was signed, and a small model that was tuned on a catalogue.

All of it is asked for as anybody would, and done by the workers after the start: nobody waits for it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageDraw

from ml.provenance import signing
from standalone.config import DEMO_FILES
from tenants.accounts.models import Tenant
from tenants.datasets.models import Asset, Dataset
from tenants.datasets.services import create_dataset
from tenants.generation import signing_keys
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import services as learning
from tenants.learning.models import LearntModel
from tenants.moderation.models import Policy
from tenants.moderation.policies.services import activate, create_policy
from tenants.moderation.starters import get_starter
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.audits.audit_requests import request_audit
from tenants.scope import tenant_scope

ACTOR = "demo"
#: Of each tenant the name of what is audited, as a dataset and as a policy, and the starter of the policy.
AUDITED = {"grocery": ("Seller listings", "marketplace"), "clinic": ("Letters", "clinic")}
#: Of a tenant the dataset that a model learns from, and the model's name. With 81 captions, asked for as anybody
#: would, that takes some eight seconds of one core, after the start.
LEARNT = {"grocery": ("products", "Catalogue")}


def ask_for_work(tenant: Tenant) -> None:
    """Ask for whatever of it has not been asked for yet."""
    name, starter = AUDITED[tenant.slug]
    with tenant_scope(tenant.id):
        _enforce(name, starter)
        dataset = Dataset.objects.filter(name=name, deleted_at=None).first() or create_dataset(name=name)
    for row in _rows(tenant.slug):
        with tenant_scope(tenant.id):
            _audited(tenant, dataset, row)


def ask_for_model(tenant: Tenant) -> None:
    """Ask for a model that waits for somebody to compare and promote it, behind whatever else is to be learnt."""
    if tenant.slug not in LEARNT:
        return
    dataset_name, name = LEARNT[tenant.slug]
    with tenant_scope(tenant.id):
        if LearntModel.objects.exists():
            return
        dataset = Dataset.objects.get(name=dataset_name, deleted_at=None)
        _, job = learning.start_finetune(dataset_id=dataset.id, name=name, actor=ACTOR)
        jobs.set_priority(job_id=job.id, priority=Job.Priority.LOW)


def _enforce(name: str, starter: str) -> None:
    """A policy like the starter that decides about what it is asked about, and leaves other uploads alone."""
    if Policy.objects.filter(name=name).exists():
        return
    document = {**get_starter(starter).document, "audit_uploads": False, "quarantine": False}
    policy, version = create_policy(name=name, document=document, actor=ACTOR)
    activate(policy_id=policy.pk, number=version.number, mode="enforce", actor=ACTOR)


def _rows(slug: str) -> Iterator[dict[str, Any]]:
    with (DEMO_FILES / slug / "audited.jsonl").open() as lines:
        yield from map(json.loads, lines)


def _audited(tenant: Tenant, dataset: Dataset, row: dict[str, Any]) -> None:
    if Asset.objects.filter(dataset=dataset, external_id=row["id"]).exists():
        return
    file = io.BytesIO(_content(tenant, row)) if row["file"] else None
    added = add_asset(
        dataset_id=dataset.id,
        file=file,
        text=row["text"],
        values=row["metadata"],
        external_id=row["id"],
        actor=ACTOR,
    )
    request_audit(asset_id=added.asset.id, actor=ACTOR)


def _content(tenant: Tenant, row: dict[str, Any]) -> bytes:
    content = (DEMO_FILES / tenant.slug / row["file"]).read_bytes()
    return _changed_after_signing(tenant, content) if row.get("changed_after_signing") else content


def _changed_after_signing(tenant: Tenant, content: bytes) -> bytes:
    """The JPEG signed with the tenant's own key, then with a label painted over it, under the same credentials."""
    keys = signing_keys.keys_of(tenant)
    signed = signing.sign(keys, content, "image/jpeg", source_type="digitalCapture")
    target = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        paint, (width, height) = ImageDraw.Draw(picture), picture.size
        paint.rectangle((0, height * 5 // 6, width, height), fill="crimson")
        paint.text(
            (width // 2, height * 11 // 12), "ORGANIC", fill="white", anchor="mm", font_size=height // 9
        )
        picture.save(target, "JPEG", quality=90)
    changed = target.getvalue()
    # Behind the header that both files begin with, where the credentials were.
    behind = 4 + int.from_bytes(changed[4:6], "big")
    return changed[:behind] + b"".join(_credentials(signed)) + changed[behind:]


def _credentials(jpeg: bytes) -> Iterator[bytes]:
    """The segments (APP11) in which a JPEG carries its manifest."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xEB:
            yield jpeg[at:end]
        at = end
