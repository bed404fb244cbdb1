"""Defining classifiers, labelling examples, training versions and letting one answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from django.db.models import Max
from django.utils.translation import gettext as _

from ml.classification import MAX_EXAMPLES
from ml.normalization import normalize
from tenants.accounts import quotas
from tenants.datasets.metadata import MAX_KEY, check_json, check_text
from tenants.datasets.models import Dataset
from tenants.datasets.selectors import require_assets
from tenants.datasets.values import as_text
from tenants.errors import Conflict, Invalid, NotReady, QuotaExceeded
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning.classifiers import scoring, training
from tenants.learning.classifiers.examples import check, read_examples
from tenants.learning.classifiers.selectors import get_classifier, get_version
from tenants.learning.models import Classifier, ClassifierExample, ClassifierVersion
from tenants.learning.services import lock
from tenants.retrieval import computed_fields
from tenants.scope import current_tenant_id, tenant_scope

MAX_NAME, MAX_WORDS, MAX_DECIDED = 60, 200, 100
# Where the plan says nothing: classifiers that a tenant may have; each is a number on every asset.
MOST = 20
# As a step of a key, `classifier.<name>.probability`: letters, digits, - and _, in any script.
_NAME = re.compile(r"\w[\w-]*+")
State, Source = ClassifierVersion.State, ClassifierVersion.Source


def create_classifier(
    *,
    name: str,
    words: str = "",
    metadata_key: str = "",
    metadata_value: object = None,
    decisions_rule: str = "",
    decisions_label: str = "",
    actor: str = "",
) -> Classifier:
    """Define a classifier. Without words, key of metadata, rule and label it is made from examples.

    `decisions_rule` and `decisions_label`: whose flags reviewers decided, and what they gave (`Classifier`).
    Raises Invalid, Conflict for a name that is taken, QuotaExceeded.
    """
    name = _checked_name(name)
    _check_words(words)
    _check_metadata(metadata_key, metadata_value)
    for value, pointer in ((decisions_rule, "/decisions/rule"), (decisions_label, "/decisions/label")):
        _check_decided(value, pointer)
    with tenant_scope(current_tenant_id()):
        lock()
        _check_quota()
        row = Classifier(name=name, folded=name.casefold(), words=words.strip(), created_by=actor)
        row.metadata_key, row.metadata_value = metadata_key, metadata_value if metadata_key else None
        row.decisions_rule, row.decisions_label = decisions_rule.strip(), decisions_label.strip()
        _require_free(row)
        row.save(force_insert=True)
        record(actor=actor, verb="classifier.created", target=str(row.id), details={"name": name})
        return row


def _checked_name(name: str) -> str:
    check_text(name, "/name")
    name = normalize("NFC", name)
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise Invalid(
            _("A name has 1 to %(most)s letters, digits, - and _, and does not begin with -.")
            % {"most": MAX_NAME},
            pointer="/name",
        )
    return name


def _check_words(words: str) -> None:
    check_text(words, "/words")
    if len(words) > MAX_WORDS:
        raise Invalid(_("Words have at most %(most)s characters.") % {"most": MAX_WORDS}, pointer="/words")


def _check_metadata(key: str, value: object) -> None:
    if not key:
        return
    check_text(key, "/metadata/key")
    check_json(value, "/metadata/value")
    if len(key) > MAX_KEY:
        raise Invalid(_("Keys have 1 to %(key)s characters.") % {"key": MAX_KEY}, pointer="/metadata/key")
    if as_text(value) is None:
        raise Invalid(_("Compare with text, a number, true or false."), pointer="/metadata/value")


def _check_decided(value: str, pointer: str) -> None:
    check_text(value, pointer)
    if len(value) > MAX_DECIDED:
        raise Invalid(
            _("Rules and labels have at most %(most)s characters.") % {"most": MAX_DECIDED}, pointer=pointer
        )


def _check_quota() -> None:
    allowed = int(quotas.limits().get("classifiers", MOST))
    if Classifier.objects.count() >= allowed:
        raise QuotaExceeded(
            _("The plan allows %(allowed)s classifiers. Delete one first.") % {"allowed": allowed},
            resource="classifiers",
            limit=allowed,
        )


def _require_free(row: Classifier) -> None:
    if Classifier.objects.filter(folded=row.folded).exists():
        raise Conflict(_("There is a classifier %(name)s already.") % {"name": f"{row.name!r}"})
    if Dataset.objects.filter(metadata_schema__has_key=row.field).exists():
        raise Conflict(
            _("Assets have metadata under %(key)s, which filters would call this classifier.")
            % {"key": row.field}
        )


def delete_classifier(*, classifier_id: uuid.UUID | None, actor: str = "") -> None:
    """With its examples, versions and scores. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        lock()
        row = get_classifier(classifier_id)
        computed_fields.drop_field(row.field)
        scoring.forget_scores(list(row.versions.values_list("pk", flat=True)))
        ClassifierExample.objects.filter(classifier=row)._raw_delete("default")
        ClassifierVersion.objects.filter(classifier=row)._raw_delete("default")
        Classifier.objects.filter(pk=row.pk)._raw_delete("default")
        record(actor=actor, verb="classifier.deleted", target=str(row.id), details={"name": row.name})


# --- Examples --------------------------------------------------------------------------------------------


def label_assets(
    *, classifier_id: uuid.UUID | None, labels: Mapping[uuid.UUID, bool | None], actor: str = ""
) -> Classifier:
    """Say yes or no of assets, or take back what was said (None). All of it, or nothing.

    Raises NotFound for a classifier or assets that are not there, Conflict where there would be too many examples.
    """
    with tenant_scope(current_tenant_id()):
        lock()
        row = get_classifier(classifier_id)
        require_assets(labels)
        gone = [asset_id for asset_id, label in labels.items() if label is None]
        ClassifierExample.objects.filter(classifier=row, asset_id__in=gone).delete()
        ClassifierExample.objects.bulk_create(
            [
                ClassifierExample(classifier=row, asset_id=asset_id, label=label, created_by=actor)
                for asset_id, label in labels.items()
                if label is not None
            ],
            update_conflicts=True,
            unique_fields=["tenant", "classifier", "asset"],
            update_fields=["label", "created_by"],
        )
        if row.examples.count() > MAX_EXAMPLES:
            raise Conflict(
                _("A classifier has at most %(most)s examples; take some back first.")
                % {"most": MAX_EXAMPLES}
            )
        details = {"name": row.name, "labels": len(labels)}
        record(actor=actor, verb="classifier.labelled", target=str(row.id), details=details)
        return row


# --- Versions --------------------------------------------------------------------------------------------


def train(
    *, classifier_id: uuid.UUID | None, source: str = "", promote: bool = False, actor: str = ""
) -> tuple[ClassifierVersion, Job]:
    """Queue the training of a new version: from examples where there are some, else from reviewers' decisions, else
    from metadata, else from words.

    `promote`: let it answer once it is trained. Raises NotFound, Conflict while another one is trained, Invalid for a
    source that the classifier does not have, Untrainable.
    """
    with tenant_scope(current_tenant_id()):
        lock()
        row = get_classifier(classifier_id)
        source = source or _source_of(row)
        _check_source(row, source)
        _require_none_under_way(row)
        if source != Source.WORDS:
            check(read_examples(row, source)[0], source)
        return _train(row, source, promote=promote, actor=actor)


def _train(row: Classifier, source: str, *, promote: bool, actor: str) -> tuple[ClassifierVersion, Job]:
    number = (row.versions.aggregate(last=Max("number"))["last"] or 0) + 1
    version = ClassifierVersion(classifier=row, number=number, source=source, created_by=actor)
    job = training.enqueue_training(version, promote=promote)
    details = {"name": row.name, "version": number, "source": source}
    record(actor=actor, verb="classifier.training_started", target=str(row.id), details=details)
    return version, job


def _source_of(row: Classifier) -> str:
    if row.examples.exists():
        return Source.EXAMPLES
    if row.has_decisions:
        return Source.DECISIONS
    if row.metadata_key:
        return Source.METADATA
    return Source.WORDS if row.words else Source.EXAMPLES


def _check_source(row: Classifier, source: str) -> None:
    if source == Source.WORDS and not row.words:
        raise Invalid(_("This classifier has no words to be made from."), pointer="/source")
    if source == Source.METADATA and not row.metadata_key:
        raise Invalid(_("This classifier names no key of metadata."), pointer="/source")
    if source == Source.DECISIONS and not row.has_decisions:
        raise Invalid(
            _("This classifier names no rule and no label that reviewers decide about."), pointer="/source"
        )


def _require_none_under_way(row: Classifier) -> None:
    ids = row.versions.filter(state__in=(State.DRAFT, State.PROMOTING)).values_list("job_id", flat=True)
    if Job.objects.filter(jobs.UNFINISHED, pk__in=list(ids)).exists():
        raise Conflict(
            _("A version of this classifier is being trained or promoted; wait for it, or cancel its job.")
        )


def promote(
    *, classifier_id: uuid.UUID | None, number: int, actor: str = ""
) -> tuple[ClassifierVersion, Job]:
    """Score all assets by a version, and let it answer; an older one as well, which is the way back.

    Raises NotFound, NotReady for one that is not trained, Conflict, Stale for one of another model.
    """
    with tenant_scope(current_tenant_id()):
        lock()
        row = get_classifier(classifier_id)
        version = get_version(row, number)
        if version.state == State.DRAFT:
            raise NotReady(_("This version has not been trained to its end."))
        scoring.require_current(version)
        if version.state == State.LIVE:
            raise Conflict(_("This version answers already."))
        _require_none_under_way(row)
        job = scoring.enqueue_scoring(version)
        details = {"name": row.name, "version": number}
        record(actor=actor, verb="classifier.promotion_started", target=str(row.id), details=details)
        return version, job


def follow_model(model: str, *, actor: str = "") -> None:
    """Another model answers from the caller's transaction on: train the live versions of others again from what they
    were made of, and promote what comes of it. Until then filters refuse the fields."""
    stale = ClassifierVersion.objects.filter(state=State.LIVE).exclude(model=model)
    for version in stale.select_related("classifier").order_by("pk"):
        _train(version.classifier, version.source, promote=True, actor=actor)
