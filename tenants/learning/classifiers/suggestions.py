"""What to label next: assets nearest to the decision line of a classifier, none nearly the same as another one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.utils.translation import gettext as _

from ml.classification import LINE, Head, margins, most_uncertain
from tenants.datasets.models import Asset
from tenants.datasets.selectors import visible_assets
from tenants.errors import NotReady
from tenants.learning.classifiers.features import read_features
from tenants.learning.classifiers.scoring import facet_key
from tenants.learning.models import Classifier, ClassifierExample, ClassifierVersion
from tenants.retrieval import model_routing
from tenants.scope import current_tenant_id

# Assets among which is chosen: the least sure where they are scored, else the newest.
POOL = 500
# Of what is labelled, the newest that suggestions keep away from.
KNOWN = 200

# From both sides of the line, in the order of the index by number.
_NEAR = """
(SELECT asset_id FROM facet WHERE tenant_id = %(tenant)s AND key = %(key)s AND number >= %(line)s
    AND asset_id NOT IN (SELECT asset_id FROM classifier_example WHERE tenant_id = %(tenant)s
        AND classifier_id = %(classifier)s)
    ORDER BY number LIMIT %(count)s)
UNION ALL
(SELECT asset_id FROM facet WHERE tenant_id = %(tenant)s AND key = %(key)s AND number < %(line)s
    AND asset_id NOT IN (SELECT asset_id FROM classifier_example WHERE tenant_id = %(tenant)s
        AND classifier_id = %(classifier)s)
    ORDER BY number DESC LIMIT %(count)s)
"""


@dataclass(frozen=True)
class Suggestion:
    """`margin`: how far its probability lies from the decision line."""

    asset_id: uuid.UUID
    probability: float
    margin: float


def suggest(classifier: Classifier, count: int) -> list[Suggestion]:
    """Nearest to the decision line first, by the live version or the newest of the live model; none where everything is
    labelled. In the tenant's scope.

    Raises NotReady where no version of that model is trained.
    """
    model = model_routing.live()
    trained = classifier.versions.filter(model=model).exclude(head=b"").order_by("-number")
    version = trained.filter(state=ClassifierVersion.State.LIVE).first() or trained.first()
    if version is None:
        raise NotReady(
            _("No version of this classifier is trained for the model that answers now. Train it first.")
        )
    modalities = _pool(classifier, version)
    features = read_features(modalities, model)
    if not features.asset_ids:
        return []
    head = Head.from_bytes(bytes(version.head))
    found = head.probabilities(features.values, [modalities[one] for one in features.asset_ids])
    labelled = ClassifierExample.objects.filter(classifier=classifier).order_by("-id")
    known = dict(labelled.values_list("asset_id", "asset__modality")[:KNOWN])
    places = most_uncertain(features.values, found, count, known=read_features(known, model).values)
    # Of what is shown, so that the figures agree.
    found = found.round(4)
    away = margins(found).round(4)
    return [
        Suggestion(features.asset_ids[place], float(found[place]), float(away[place])) for place in places
    ]


def _pool(classifier: Classifier, version: ClassifierVersion) -> dict[uuid.UUID, str]:
    """The assets among which is chosen, with their modalities."""
    given: dict[str, Any] = {
        "tenant": current_tenant_id(),
        "key": facet_key(version.pk),
        "classifier": classifier.pk,
        "line": LINE,
        "count": POOL // 2,
    }
    with connection.cursor() as cursor:
        cursor.execute(_NEAR, given)
        near = [row[0] for row in cursor.fetchall()]
    ready = visible_assets().filter(status=Asset.State.READY)
    if near:
        return dict(ready.filter(pk__in=near).values_list("pk", "modality"))
    labelled = ClassifierExample.objects.filter(classifier=classifier).values("asset_id")
    return dict(ready.exclude(pk__in=labelled).order_by("-pk").values_list("pk", "modality")[:POOL])
