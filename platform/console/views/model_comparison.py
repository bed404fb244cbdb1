"""Two to four models side by side: their figures, what they cost, and how much a promotion would change."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse

from console.access import Request, needs, page
from console.model_comparison import sheet_of
from tenants.accounts.permissions import READ
from tenants.learning import selectors
from tenants.learning.models import LearntModel

FEWEST, MOST = 2, 4


@needs(READ)
def show(request: Request) -> HttpResponse:
    """`?model=` names them; with fewer or more than may be the page asks to choose again. Raises NotFound."""
    wanted = list(dict.fromkeys(request.GET.getlist("model")))
    fits = FEWEST <= len(wanted) <= MOST
    context: dict[str, Any] = {"fits": fits, "count": len(wanted), "most": MOST}
    if fits:
        with request.workspace.open():
            models = [selectors.find_model(one) for one in wanted]
            promotions = {model.space: selectors.newest_promotion(model) for model in models}
        context |= sheet_of(models, promotions)
        own = [model for model in models if isinstance(model, LearntModel)]
        context["tests_differ"] = len({_tested_on(model) for model in own}) > 1
    return page(request, "model_comparison.html", context)


def _tested_on(model: LearntModel) -> str:
    return ",".join(sorted(one["id"] for one in model.data.get("datasets", [])))
