"""Standard terms of training and retrieval, and what they mean in plain words."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

STATES = {
    "draft": _("draft"),
    "candidate": _("candidate"),
    "live": _("live"),
    "retired": _("retired"),
    "failed": _("failed"),
    "cancelled": _("cancelled"),
}

STAGES = {"adapt": _("Adapt"), "full": _("Full")}

METHODS = {"heads": _("Heads"), "lora": "LoRA"}

PHASES = {"adapt": _("Adapt"), "general": _("General"), "domain": _("Domain")}

WAYS = {"text>image": _("Text → image"), "image>text": _("Image → text")}

# The other traditional methods are called in reports what they are called here.
SPACES = {"model": _("This model"), "parent": _("Parent"), "regularised CCA": _("Regularised CCA")}

FIGURES = {
    "r1": "R@1",
    "r5": "R@5",
    "r10": "R@10",
    "map": "mAP",
    "mrr": "MRR",
    "median_rank": _("Median rank"),
}

FIGURE_MEANS = (
    ("R@k", _("In how many of 100 searches a right answer stands among the first k.")),
    ("mAP", _("Mean average precision: 1 where all right answers stand before all others.")),
    (_("Median rank"), _("At which place the first right answer stands in half of the searches, or before.")),
    (_("Pool"), _("Among how many items is searched: the more, the harder.")),
    (
        _("Interval"),
        _("95 % of resamples over groups lie in it; two that overlap widely are not told apart."),
    ),
)


PARTS = {
    "text": _("words"),
    "image": _("picture"),
    "audio": _("speech"),
    "video": _("video"),
    "vector": _("vector"),
    "like": _("examples"),
    "unlike": _("not like"),
}


RELEVANCE_SAME = _("The same as the parent’s: the fine-tune changed nothing")

#: Why searches by a model cannot say how likely results are, by the reason that its training gave.
RELEVANCE_LACKS = {
    "base": _("None: the parent has none. Models that start from open-2 or open-1 have it."),
    "encoders": _("None: this model reads texts with another encoder than its parent."),
    "few": _("None: too few pairs were left to test by. With more pairs it can be estimated."),
    "": _("None: this model was trained by an earlier release. Fine-tune again to have it."),
}

ORDERED_BY_SIMILARITY = _(
    "While this model answers, results are ordered by similarity, without saying how likely they are or that nothing "
    "fits."
)

#: What stays the same while a model answers, by the kind of query for which it does not ("" for none).
RELEVANCE_KEPT = {
    "": _(
        "While it answers, searches say how likely results are and when nothing fits, as estimated from what the "
        "parent says."
    ),
    "image": _(
        "While it answers, searches by words say how likely results are and when nothing fits, as estimated from what "
        "the parent says. Results of searches by a picture are ordered by similarity."
    ),
    "text": _(
        "While it answers, searches by a picture say how likely results are and when nothing fits, as estimated from "
        "what the parent says. Results of searches by words are ordered by similarity."
    ),
}

STAGE_CHOICES = (
    (
        "adapt",
        _("Adapt"),
        _(
            "The encoders stay as they are; only the light layers on top learn from your pairs. Minutes on a CPU."
        ),
    ),
    (
        "full",
        _("Full"),
        _(
            "Learns from a dataset of general pairs first, then from yours with the lower layers frozen. Several times "
            "the cost; for thousands of pairs."
        ),
    ),
)

METHOD_CHOICES = (
    (
        "heads",
        _("Heads"),
        _(
            "Projection heads over frozen features: every picture is encoded once, then an epoch takes seconds."
        ),
    ),
    (
        "lora",
        _("LoRA"),
        _(
            "Small low-rank matrices inside the text encoder are trained, too. Far slower on a CPU, "
            "as every caption is encoded again in each epoch; for words the encoder does not know."
        ),
    ),
)
