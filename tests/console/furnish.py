"""A workspace with something to show on every page, made in the database of a running stack.

`python -m tests.console.furnish [SLUG]` beside a stack (its settings in the environment) furnishes the workspace of
that name, or a new one, and prints who may sign in there and the addresses of all pages as JSON. Tests of all pages,
pictures of them and benchmarks start from it; a page of a new thing needs one in `Things` (tests.console.test_access).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
#: Addresses that answer GET with something else than a page: content, data, parts for the script.
NOT_PAGES = {
    *("asset-content", "asset-thumbnail", "asset-tile", "search-picture", "audit-content", "audit-picture"),
    *("alerts-unread", "alerts-events"),
    "asset-page",
    *("export-content", "import-receipt", "usage-export", "job-events", "jobs-states", "job-log", "logout"),
    *("sso-callback", "sso-finish", "sso-metadata"),
    *(
        "asset-neighbours",
        "map-points",
        "map-topics",
        "map-matches",
        "policies-language",
        "generation-preview",
    ),
}
OPERATORS_NOT_PAGES = {"tenant-export-content", "usage-export"}
#: Pages that only make sense in the middle of something; others tests open them (test_people, test_sign_in).
PASSING = {
    "sign-up",
    "plan",
    "data-close",
    "sign-up-open",
    "login-code",
    "invitation",
    "reset-new",
    "verify-go-on",
    "sso-confirm",
    "sso-prove",
}
DEMO_PICTURES = 8


def furnish_beside(stack: Any, *arguments: str) -> dict[str, Any]:
    """Furnish in the database of a running stack, from a process of its own."""
    from standalone.stack import inherited

    env = {**inherited(), **stack.env, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    command = [sys.executable, "-m", "tests.console.furnish", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def page_names() -> list[str]:
    """Of every address of the console that a person can open."""
    from console.urls import urlpatterns

    return [p.name for p in urlpatterns if p.name not in NOT_PAGES | PASSING and _opens(p)]


def operator_page_names() -> list[str]:
    from backoffice.urls import urlpatterns

    return [p.name for p in urlpatterns if p.name not in OPERATORS_NOT_PAGES and _opens(p)]


def _opens(pattern: Any) -> bool:
    """Class-based views are pages that are opened; of the others the decorator says which methods they serve."""
    return "GET" in getattr(pattern.callback, "methods", ("GET",))


def furnish(slug: str = "") -> dict[str, Any]:
    party = _old_party(slug) if slug else _new_party()
    things = _things(party)
    addresses = {name: things.address(name) for name in page_names()}
    if "earlier_version_id" in things.ids:
        addresses["dataset-version-compare"] += f"?with={things.ids['earlier_version_id']}"
    return {
        "tenant": str(party.id),
        "slug": party.tenant.slug,
        "user": party.owner.email,
        "password": party.password,
        "pages": addresses | _variants(party),
        "operator": _operator(party),
    }


def _new_party() -> Any:
    from tenants.accounts import services
    from tests.conftest import Party

    slug = f"gallery-{secrets.token_hex(4)}"
    tenant = services.create_tenant(slug=slug, name="Gallery of Pages", plan="demo")
    password = secrets.token_urlsafe(12)
    owner = services.create_user(email=f"owner@{slug}.example", password=password)
    services.set_role(tenant=tenant, user=owner, role="owner")
    party = Party(tenant, owner, password, _key(tenant, owner))
    _hang_pictures(party)
    return party


def _key(tenant: Any, owner: Any) -> str:
    from tenants.accounts import keys
    from tenants.accounts.permissions import SCOPES
    from tenants.scope import tenant_scope

    with tenant_scope(tenant.id):
        return str(keys.create_key(name="Shop window", scopes=list(SCOPES), created_by=owner)[1])


def _old_party(slug: str) -> Any:
    """An existing workspace with its first owner, who keeps their password."""
    from tenants.accounts.models import Membership, Tenant
    from tests.conftest import Party

    tenant = Tenant.objects.get(slug=slug)
    member = Membership.objects.select_related("user").filter(tenant=tenant, role="owner").order_by("pk")[0]
    return Party(tenant, member.user, "", _key(tenant, member.user))


def _hang_pictures(party: Any) -> None:
    """Some real pictures with captions, embedded by the stack's workers."""
    from standalone.config import DEMO_FILES
    from tenants.datasets.services import create_dataset
    from tenants.jobs.models import Job
    from tenants.pipeline.assets.services import add_asset
    from tenants.scope import tenant_scope

    rows = [json.loads(line) for line in (DEMO_FILES / "grocery/manifest.jsonl").read_text().splitlines()]
    with tenant_scope(party.id):
        dataset = create_dataset(name="Fruit and vegetables")
    for row in [row for row in rows if row["file"]][:DEMO_PICTURES]:
        with tenant_scope(party.id), (DEMO_FILES / "grocery" / row["file"]).open("rb") as file:
            add_asset(dataset_id=dataset.id, file=file, text=row["text"], values=row["metadata"])
    _wait(lambda: Job.objects.exclude(state__in=Job.TERMINAL).exists(), party)


def _wait(busy: Any, party: Any, timeout_s: float = 120) -> None:
    from tenants.scope import tenant_scope

    def is_done() -> bool:
        with tenant_scope(party.id):
            return not busy()

    until(is_done, timeout_s, "The pictures were not embedded in time.")


def _things(party: Any) -> Any:
    """One of each thing, and of what has much to show one that shows it."""
    from tests.console.test_access import Things

    things = Things(party)
    things.ids |= _rich(party)
    return things


def _rich(party: Any) -> dict[str, Any]:
    from tenants.datasets.models import Asset
    from tenants.learning.dataset_versions import make_version
    from tenants.scope import tenant_scope
    from tests.console import generating
    from tests.console.learning import candidate, promotion, report

    model = candidate(party, name=f"Shelf labels {secrets.token_hex(2)}")
    promotion(party, model, "failed", report=report(worse=["golden"]))
    with tenant_scope(party.id):
        picture = Asset.objects.filter(modality="image", status="ready").order_by("-id").first()
    made = {"model_id": model.id, "generation_id": generating.made(party, outputs=("image", "audio")).id}
    if picture is None:
        return made
    _classify(party, picture)
    _label(party, picture)
    with tenant_scope(party.id):
        earlier, version = (
            make_version(dataset_id=picture.dataset_id, name=f"v{n}-{secrets.token_hex(2)}")[0].id
            for n in (1, 2)
        )
    made |= {"asset_id": picture.id, "dataset_id": picture.dataset_id}
    return {**made, "version_id": version, "earlier_version_id": earlier}


def _classify(party: Any, picture: Any) -> None:
    """One live classifier has looked at the picture, another has not."""
    from tenants.datasets.models import Facet
    from tenants.learning.classifiers import scoring, services
    from tenants.learning.models import ClassifierVersion
    from tenants.retrieval import model_routing
    from tenants.scope import tenant_scope

    with tenant_scope(party.id):
        for name in ("ripe", "白色连衣裙", "as-long-a-name-as-there-may-be-without-a-single-space"):
            row = services.create_classifier(name=f"{name}-{secrets.token_hex(2)}")
            version = ClassifierVersion.objects.create(
                classifier=row, number=2, state="live", source="examples", model=model_routing.live(),
                report={"tier": "calibrated"},
            )  # fmt: skip
            if name == "ripe":
                Facet.objects.create(asset=picture, key=scoring.facet_key(version.pk), number=0.934)


def _label(party: Any, picture: Any) -> None:
    """Labels of results: agreed, disputed, and of one member alone."""
    from tenants.learning import result_labels
    from tenants.scope import tenant_scope

    long = "as-long-a-query-as-there-may-be-without-a-single-space-" * 4
    with tenant_scope(party.id):
        for text, said in (("red fruit", (True, True)), ("apples", (True, False)), (long, (True,))):
            for who, right in enumerate(said):
                result_labels.label_result(
                    text=text, asset_id=picture.id, right=right, actor=f"somebody {who}"
                )


def _variants(party: Any) -> dict[str, str]:
    """Pages that look different in another state of the thing that they are about."""
    from tests.console import generating
    from tests.console.auditing import audited, flag_of
    from tests.console.learning import job_of, training
    from tests.tenants.reviewing import make_world

    world = make_world(party)
    audit = audited(world, ("rude", "naked", "made"))
    review = flag_of(world, audit)
    model = training(party, name=f"Being trained {secrets.token_hex(2)}")
    error = {"type": "damaged", "detail": "The file is not a picture: it ends in the middle."}
    refused = {"type": "prompt-blocked", "detail": "The content policy does not allow this prompt (hate)."}
    failed = job_of(party, "embed_asset", "failed", error=error, attempts=3, progress_failed=1)
    return {
        "search+results": "/search?q=red+fruit",
        "search+nothing": "/search?q=zzz&modality=video",
        "audit+evidence": f"/audits/{audit.id}",
        "asset-appeal": f"/assets/{audit.item}/appeal",
        "asset-comparison": _comparison(party),
        "review+open": f"/reviews/{review.id}",
        "model+training": f"/models/{model.id}",
        "generation+blocked": f"/generate/{generating.ended(party, 'blocked', refused).id}",
        "job+failed": f"/jobs/{failed.id}",
        "404": "/nothing-here",
    }


def _comparison(party: Any) -> str:
    """Of two versions of a contract."""
    from tenants.datasets.services import create_dataset
    from tenants.pipeline.assets.services import add_asset
    from tenants.scope import tenant_scope

    pay = "1. Payment is due within {} days of the invoice.\n2. The law of Norway applies.\n"
    texts = (pay.format(30) + "3. Either party may leave.", pay.format(60) + "3. Disputes go to court.")
    with tenant_scope(party.id):
        dataset = create_dataset(name=f"Contracts {secrets.token_hex(2)}")
        earlier, later = (add_asset(dataset_id=dataset.id, text=text).asset for text in texts)
    return f"/assets/{earlier.id}/comparison?to={later.id}&all=1"


def _operator(party: Any) -> dict[str, Any]:
    """An operator, and the addresses of the operator's pages."""
    from tenants.accounts import services
    from tenants.accounts.models import Plan

    email, password = f"operator-{secrets.token_hex(4)}@crosslight.example", secrets.token_urlsafe(12)
    services.create_user(email=email, password=password, operator=True)
    plan = Plan.objects.order_by("slug")[0]
    known = {"slug": party.tenant.slug, "name": "acting-as", **_for_operators(party)}
    pages = {name: _operator_page(name, known, plan.slug) for name in operator_page_names()}
    return {"user": email, "password": password, "pages": pages}


def _operator_page(name: str, known: dict[str, Any], plan: str) -> str:
    from django.urls import reverse

    from backoffice.urls import urlpatterns

    pattern = next(one for one in urlpatterns if one.name == name)
    known = {**known, "slug": plan} if name.startswith("plan") else known
    return reverse(f"operator:{name}", kwargs={key: known[key] for key in pattern.pattern.converters})


def _for_operators(party: Any) -> dict[str, Any]:
    """A dead letter, the receipt of a tenant that is gone, and what a tenant asks for."""
    from uuid import uuid4

    from tenants.accounts.models import PlanRequest
    from tenants.events.models import TenantErasure
    from tests.console.learning import job_of

    detail = "Gave up after 3 attempts: each time the worker stopped without an answer."
    dead = job_of(party, "embed_media", "failed", error={"type": "dead-letter", "detail": detail}, attempts=3)
    gone = TenantErasure.objects.create(erased_tenant=uuid4(), slug=f"gone-{secrets.token_hex(3)}")
    asked = PlanRequest.objects.create(
        tenant=party.tenant, resource="assets", amount=50_000, note="A second shop."
    )
    return {"job_id": dead.id, "erasure_id": gone.id, "request_id": asked.id}


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    print(json.dumps(furnish(*sys.argv[1:])))  # noqa: T201 - its answer
