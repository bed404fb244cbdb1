"""The demo tenants: a grocery shop and a clinic, with users, keys and a few hundred files.

Secrets are drawn once and written to `$DATA_DIR/demo.json` before anything is made with them, so that an
interrupted seeding goes on with the same ones.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from standalone import demo_work
from standalone.config import DEMO_FILES
from tenants.accounts import keys, services
from tenants.accounts.models import KeyDigest, Membership, Tenant, User
from tenants.accounts.permissions import SCOPES
from tenants.datasets.models import Dataset
from tenants.datasets.services import create_dataset
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import saved, standing
from tenants.retrieval.models import StandingQuery
from tenants.scope import tenant_scope

TENANTS = {"grocery": "Corner Grocery", "clinic": "Hillside Clinic"}
# What each is told of when it arrives; of the demo's own files some do.
STANDING = {"grocery": "bell peppers", "clinic": "pneumonia"}
WAIT_S = 600

Tell = Callable[[str], Any]


def seed(tell: Tell) -> None:
    """Make whatever of the demo is missing, and wait until it can be searched; what waits for somebody comes after."""
    known = _secrets()
    _write(known)
    _ensure_user(known["operator"], operator=True)
    for entry in known["tenants"]:
        _seed_tenant(entry, tell)
    _write(known)
    for entry in known["tenants"]:
        _wait(entry["slug"], tell)
    for entry in known["tenants"]:
        tenant = Tenant.objects.get(slug=entry["slug"])
        demo_work.ask_for_work(tenant)
        if settings.DEMO_MODEL:
            demo_work.ask_for_model(tenant)


def _path() -> Path:
    return settings.DATA_DIR / "demo.json"


def _secrets() -> dict[str, Any]:
    if _path().exists():
        return {**json.loads(_path().read_text()), "base_url": settings.BASE_URL}
    return {
        "base_url": settings.BASE_URL,
        "tenants": [_new_tenant(slug) for slug in TENANTS],
        "operator": {"user": "operator@crosslight.example", "password": secrets.token_urlsafe(15)},
    }


def _new_tenant(slug: str) -> dict[str, Any]:
    return {
        "slug": slug,
        "api_key": f"cl{secrets.token_hex(5)}.{secrets.token_urlsafe(32)}",
        "user": f"owner@{slug}.example",
        "password": secrets.token_urlsafe(15),
        "datasets": {},
    }


def _write(known: dict[str, Any]) -> None:
    beside = _path().with_suffix(".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as sink:
        json.dump(known, sink, indent=2)
    beside.replace(_path())


def _ensure_user(entry: dict[str, Any], *, operator: bool = False) -> User:
    user = User.objects.filter(email=entry["user"]).first()
    return user or services.create_user(email=entry["user"], password=entry["password"], operator=operator)


def _seed_tenant(entry: dict[str, Any], tell: Tell) -> None:
    slug = entry["slug"]
    tenant = Tenant.objects.filter(slug=slug).first() or services.create_tenant(
        slug=slug, name=TENANTS[slug], plan="demo"
    )
    owner = _ensure_user(entry)
    services.set_role(tenant=tenant, user=owner, role="owner")
    with tenant_scope(tenant.id):
        if not KeyDigest.objects.filter(prefix=entry["api_key"].split(".")[0]).exists():
            keys.create_key(name="demo", scopes=list(SCOPES), created_by=owner, token=entry["api_key"])
    stand(tenant, owner, STANDING[slug])
    entry["datasets"] = _seed_assets(tenant, slug, tell)
    tell(f"{tenant.name}: datasets {', '.join(entry['datasets'])}")


def stand(tenant: Tenant, owner: User, words: str) -> None:
    """A standing query, before what it is to tell of arrives."""
    with tenant_scope(tenant.id):
        if StandingQuery.objects.exists():
            return
    member = Membership.objects.get(tenant=tenant, user=owner)
    prepared = standing.prepare(tenant_id=tenant.id, query={"text": words})
    with tenant_scope(tenant.id):
        who = saved.Who(str(owner.pk), member.pk, owns_workspace=True)
        standing.create_standing(who=who, name=words.capitalize(), prepared=prepared)


def _rows(slug: str) -> Iterator[dict[str, Any]]:
    with (DEMO_FILES / slug / "manifest.jsonl").open() as lines:
        yield from map(json.loads, lines)


def _seed_assets(tenant: Tenant, slug: str, tell: Tell) -> dict[str, str]:
    datasets: dict[str, Dataset] = {}
    rows = list(_rows(slug))
    for number, row in enumerate(rows, 1):
        with tenant_scope(tenant.id):
            name = row["dataset"]
            if name not in datasets:
                datasets[name] = Dataset.objects.filter(name=name, deleted_at=None).first() or create_dataset(
                    name=name
                )
            _add(datasets[name], slug, row)
        if number % 20 == 0:
            tell(f"{slug}: {number} of {len(rows)} files stored")
    return {name: str(dataset.id) for name, dataset in datasets.items()}


def _add(dataset: Dataset, slug: str, row: dict[str, Any]) -> None:
    chosen: dict[str, Any] = {"text": row["text"], "values": row["metadata"], "external_id": row["id"]}
    if row["file"] is None:
        add_asset(dataset_id=dataset.id, actor="demo", **chosen)
        return
    with (DEMO_FILES / slug / row["file"]).open("rb") as file:
        add_asset(dataset_id=dataset.id, file=file, actor="demo", **chosen)


def _wait(slug: str, tell: Tell) -> None:
    """Until every job of the tenant has ended; says how far it is."""
    tenant_id, deadline, told = Tenant.objects.get(slug=slug).id, time.monotonic() + WAIT_S, -1
    total = sum(1 for _ in _rows(slug))
    while time.monotonic() < deadline:
        with tenant_scope(tenant_id):
            left = Job.objects.filter(UNFINISHED).count()
        if left == 0:
            return
        if left != told:
            told = left
            tell(f"{slug}: {max(0, total - left)} of {total} files can be searched")
        time.sleep(0.5)
    raise TimeoutError(f"The demo of {slug} is not embedded after {WAIT_S} s; see the log of worker-embed.")
