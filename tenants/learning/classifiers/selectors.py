"""Reading classifiers, their versions and examples."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from django.db.models import Count, F, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext as _

from tenants.errors import NotFound
from tenants.learning import shapes
from tenants.learning.models import Classifier, ClassifierExample, ClassifierVersion
from tenants.learning.selectors import public_name
from tenants.retrieval import model_routing

# Versions that a classifier is shown with.
MOST_SHOWN = 20
DRAFT, LIVE, STALE = "draft", "live", "stale"


def get_classifier(classifier_id: uuid.UUID | None) -> Classifier:
    """Raises NotFound."""
    row = Classifier.objects.filter(pk=classifier_id).first()  # None matches no row
    if row is None:
        raise NotFound(_("This classifier does not exist."))
    return row


def list_classifiers() -> QuerySet[Classifier]:
    return Classifier.objects.order_by("-id")


def get_version(classifier: Classifier, number: int) -> ClassifierVersion:
    """Raises NotFound."""
    row = classifier.versions.filter(number=number).first()
    if row is None:
        raise NotFound(_("The classifier has no such version."))
    return row


def list_examples(classifier: Classifier) -> QuerySet[ClassifierExample]:
    return ClassifierExample.objects.filter(classifier=classifier).order_by("-id")


# --- Shapes ----------------------------------------------------------------------------------------------


def describe_all(rows: Iterable[Classifier]) -> list[shapes.ClassifierShape]:
    """Classifiers with their newest versions and that which is live, in three statements, however many there are."""
    listed = list(rows)
    ids = [row.pk for row in listed]
    counted = ClassifierExample.objects.filter(classifier__in=ids).values_list("classifier_id")
    counts = {
        pk: (yes, no)
        for pk, yes, no in counted.annotate(yes=Count("pk", Q(label=True)), no=Count("pk", Q(label=False)))
    }
    versions: dict[uuid.UUID, list[ClassifierVersion]] = {pk: [] for pk in ids}
    for version in _shown_versions(ids):
        versions[version.classifier_id].append(version)
    live = model_routing.live()
    return [_shape(row, versions[row.pk], counts.get(row.pk, (0, 0)), live) for row in listed]


def _shown_versions(classifier_ids: list[uuid.UUID]) -> QuerySet[ClassifierVersion]:
    """Of each of them the newest versions and that which is live, without their heads; newest first."""
    age = Window(RowNumber(), partition_by="classifier_id", order_by=F("number").desc())
    rows = ClassifierVersion.objects.filter(classifier__in=classifier_ids).defer("head").annotate(age=age)
    return rows.filter(Q(age__lte=MOST_SHOWN) | Q(state=ClassifierVersion.State.LIVE)).order_by("-number")


def describe(row: Classifier) -> shapes.ClassifierShape:
    return describe_all([row])[0]


def _shape(
    row: Classifier, versions: list[ClassifierVersion], counts: tuple[int, int], model: str
) -> shapes.ClassifierShape:
    live = next((one for one in versions if one.state == ClassifierVersion.State.LIVE), None)
    made_of = shapes.ClassifierMetadata(key=row.metadata_key, value=row.metadata_value)
    return shapes.ClassifierShape(
        id=str(row.id),
        name=row.name,
        field=row.field,
        words=row.words or None,
        metadata=made_of if row.metadata_key else None,
        decisions=_decisions(row),
        examples=shapes.ClassifierCounts(yes=counts[0], no=counts[1]),
        state=DRAFT if live is None else LIVE if live.model == model else STALE,
        live=live.number if live else None,
        versions=[version_shape(one, model) for one in versions],
        created_by=row.created_by,
        created_at=row.created_at,
    )


def _decisions(row: Classifier) -> shapes.ClassifierDecisions | None:
    if not row.has_decisions:
        return None
    return shapes.ClassifierDecisions(rule=row.decisions_rule or None, label=row.decisions_label or None)


def version_shape(row: ClassifierVersion, live: str) -> shapes.ClassifierVersionShape:
    """`live`: the model that answers."""
    return shapes.ClassifierVersionShape(
        number=row.number,
        state=row.state,
        source=row.source,
        model=public_name(row.model) if row.model else None,
        stale=bool(row.model) and row.model != live,
        tier=row.report.get("tier"),
        report=row.report,
        job=str(row.job_id) if row.job_id else None,
        error=row.error,
        created_by=row.created_by,
        created_at=row.created_at,
        trained_at=row.trained_at,
        promoted_at=row.promoted_at,
    )


def example_shape(row: ClassifierExample) -> shapes.ClassifierExampleShape:
    return shapes.ClassifierExampleShape(
        asset=str(row.asset_id), label=row.label, created_by=row.created_by, created_at=row.created_at
    )
