"""Classifiers in the console: defined, labelled by buttons, trained, promoted, deleted; and what is refused."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.test import Client

from tenants.datasets.models import Asset
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning.classifiers import services, suggestions
from tenants.learning.models import Classifier, ClassifierExample, ClassifierVersion
from tenants.learning.selectors import public_name
from tenants.retrieval import model_routing
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.retrieval.models import ComputedField
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.test_models import read
from tests.console.test_pages import EVIL
from tests.tenants.learning.test_classifiers import vector
from tests.tenants.learning.world import add_pairs, new_dataset
from workers.base import run_job


def run_all(party: Party) -> None:
    """What waits of classifiers."""
    with tenant_scope(party.id):
        kinds = ("train_classifier", "score_assets")
        waiting = list(Job.objects.filter(jobs.UNFINISHED, kind__in=kinds).values_list("pk", flat=True))
    for job_id in waiting:
        run_job(str(job_id), str(party.id))


def test_from_a_name_to_a_version_that_answers(party: Party, owner: Client) -> None:
    assert "No classifiers yet" in read(owner, "/classifiers")
    with tenant_scope(party.id):
        pictures = add_pairs(new_dataset(), 10)
        add_vectors(
            vectors=[(one, [NewVector("image", vector(n, n < 5))]) for n, one in enumerate(pictures)],
            model=model_routing.default_model(),
        )
        Asset.objects.filter(pk__in=[one.pk for one in pictures]).update(status="ready")
    made = owner.post("/classifiers/new", {"name": "damaged"})
    with tenant_scope(party.id):
        row = Classifier.objects.get()
    address = f"/classifiers/{row.id}"
    assert (made.status_code, made["Location"]) == (302, address)
    assert "Nothing is trained yet" in read(owner, address)
    assert "0 examples of yes" in owner.post(f"{address}/train", follow=True).content.decode()
    for answer, chosen in (("yes", pictures[:3]), ("no", pictures[5:8])):
        owner.post(f"{address}/label", {"label": answer, "assets": "\n".join(str(one.id) for one in chosen)})
    owner.post(f"{address}/train")
    assert "being trained or applied" in read(owner, address)
    run_all(party)
    shown = read(owner, address)
    assert "Version 1" in shown
    assert "6 examples in 3 folds" in shown
    assert "Fewer than 30 examples" in shown
    # Four have no label yet.
    assert shown.count('value="yes" aria-label=') == 4
    owner.post(f"{address}/promote", {"version": "1"})
    run_all(party)
    assert '<td data-name="State">live</td>' in read(owner, "/classifiers")
    asset = read(owner, f"/assets/{pictures[0].id}")
    assert re.search(rf'<a href="{address}">damaged</a> <span class="score"[^>]*>0\.\d\d\d</span>', asset)
    assert "version 1, estimated, not calibrated" in asset
    owner.post(f"{address}/label", {"label": "none", "assets": str(pictures[0].id)})
    with tenant_scope(party.id):
        assert ClassifierExample.objects.count() == 5
    assert owner.post(f"{address}/delete", {"name": "other"}).status_code == 422
    owner.post(f"{address}/delete", {"name": "damaged"})
    with tenant_scope(party.id):
        assert not Classifier.objects.exists()
    assert owner.post(f"{address}/delete", {"name": "damaged"}).status_code == 404


def answering(party: Party, owner: Client) -> list[Asset]:
    """Ten pictures, and a classifier `damaged` that answers: yes of the first five."""
    with tenant_scope(party.id):
        pictures = add_pairs(new_dataset(), 10)
        add_vectors(
            vectors=[(one, [NewVector("image", vector(n, n < 5))]) for n, one in enumerate(pictures)],
            model=model_routing.default_model(),
        )
        Asset.objects.filter(pk__in=[one.pk for one in pictures]).update(status="ready")
        row = services.create_classifier(name="damaged")
        labels = {one.id: n < 5 for n, one in enumerate(pictures) if n not in (4, 9)}
        services.label_assets(classifier_id=row.id, labels=labels)
        services.train(classifier_id=row.id, promote=True)
    run_all(party)
    run_all(party)
    return pictures


def test_what_to_label_next_says_how_near_to_the_decision_line_it_is(party: Party, owner: Client) -> None:
    answering(party, owner)
    with tenant_scope(party.id):
        row = Classifier.objects.get()
        found = suggestions.suggest(row, 12)
    shown = " ".join(read(owner, f"/classifiers/{row.id}").split())
    assert "nearest to the decision line at .50 first" in shown
    told = re.findall(r'<span class="score">([\d.]+)</span><span>([\d.]+) from the line</span>', shown)
    assert told == [(f"{one.probability:.3f}", f"{one.margin:.3f}") for one in found]
    assert len(told) == 2


def test_a_stale_version_says_why_and_what_to_do_instead_of_offering_to_answer(
    party: Party, owner: Client
) -> None:
    answering(party, owner)
    with tenant_scope(party.id):
        row = Classifier.objects.get()
        services.train(classifier_id=row.id)
    run_all(party)
    address = f"/classifiers/{row.id}"
    assert "Promote version 2" in read(owner, address)
    with tenant_scope(party.id):
        ClassifierVersion.objects.filter(number=2).update(model="other:1")
    shown = " ".join(read(owner, address).split())
    assert "Promote version 2" not in shown
    assert f"It reads the model other, and {public_name(model_routing.default_model())} answers now" in shown
    assert "Train a version again to let it answer." in shown
    told = owner.post(f"{address}/promote", {"version": "2"}, follow=True).content.decode()
    assert "Train it again" in told
    with tenant_scope(party.id):
        assert not Job.objects.filter(jobs.UNFINISHED, kind="score_assets").exists()


def test_a_search_is_narrowed_by_what_a_classifier_answers(
    party: Party, owner: Client, make_party: Any
) -> None:
    assert 'name="classifier"' not in read(owner, "/search")
    pictures = answering(party, owner)
    shown = read(owner, "/search")
    assert '<option value="damaged:yes">' in shown
    for answer, chosen in (("yes", pictures[:5]), ("no", pictures[5:])):
        address = f"/search?like={pictures[7].id}&classifier=damaged:{answer}&group=off"
        page = read(owner, address)
        expected = {str(one.id) for one in chosen} - {str(pictures[7].id)}
        assert set(re.findall(r'<li class="tile" id="asset-([^"]+)"', page)) == expected
        assert f'<option value="damaged:{answer}" selected>' in page
        # Where it is found again, and what a program asks.
        assert f"classifier=damaged%3A{answer}" in page
        assert "classifier.damaged.probability" in page
    for wrong in ("damaged", "damaged:maybe", ":yes", "gone:yes"):
        answer = owner.get("/search", {"like": str(pictures[7].id), "classifier": wrong})
        assert answer.status_code == 422, wrong
    # What another workspace asks about is no choice here.
    other = make_party()
    client = Client()
    client.force_login(other.owner)
    assert "damaged" not in client.get("/search").content.decode()


def test_a_search_does_not_offer_a_classifier_that_does_not_answer(party: Party, owner: Client) -> None:
    answering(party, owner)
    with tenant_scope(party.id):
        ComputedField.objects.update(model="other:1")
    assert 'name="classifier"' not in read(owner, "/search")


def test_what_is_odd_is_told_and_shown_as_text(party: Party, owner: Client) -> None:
    refused = owner.post("/classifiers/new", {"name": "two words", "words": EVIL})
    assert refused.status_code == 422
    assert "A name has 1 to 60" in refused.content.decode()
    assert EVIL not in refused.content.decode()
    owner.post("/classifiers/new", {"name": "白色连衣裙", "words": EVIL, "key": "dress", "value": "white"})
    with tenant_scope(party.id):
        row = Classifier.objects.get()
    assert (row.metadata_key, row.metadata_value) == ("dress", "white")
    assert EVIL not in read(owner, f"/classifiers/{row.id}")
    for path, fields in (
        ("label", {"label": "yes", "assets": "zzz"}),
        ("label", {"label": "maybe", "assets": str(uuid.uuid4())}),
        ("label", {"label": "yes", "assets": str(uuid.uuid4())}),
        ("promote", {"version": "9"}),
        ("promote", {"version": "x"}),
    ):
        told = owner.post(f"/classifiers/{row.id}/{path}", fields, follow=True).content.decode()
        assert "no such" in told or "does not exist" in told, (path, fields)
    assert owner.post("/classifiers/new", {"name": "白色连衣裙"}).status_code == 422
    assert owner.post(f"/classifiers/{uuid.uuid4()}/train").status_code == 404


def test_one_is_made_from_reviewers_decisions(party: Party, owner: Client) -> None:
    owner.post("/classifiers/new", {"name": "rude", "rule": "insults", "label": EVIL})
    with tenant_scope(party.id):
        row = Classifier.objects.get()
    assert (row.decisions_rule, row.decisions_label) == ("insults", EVIL)
    shown = read(owner, f"/classifiers/{row.id}")
    assert "<code>insults" in shown
    assert EVIL not in shown
    told = owner.post(f"/classifiers/{row.id}/train", follow=True).content.decode()
    assert "Reviewers have decided nothing yet" in told


def test_a_viewer_reads_and_is_offered_nothing(party: Party, person) -> None:
    with tenant_scope(party.id):
        row = services.create_classifier(name="damaged")
    viewer = person("viewer")
    for address in ("/classifiers", f"/classifiers/{row.id}"):
        assert '<form class="stack"' not in read(viewer, address)
