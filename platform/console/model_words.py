"""Standard terms of training and retrieval, and what they mean in plain words."""

from __future__ import annotations

STATES = {
    "draft": "draft",
    "candidate": "candidate",
    "live": "live",
    "retired": "retired",
    "failed": "failed",
    "cancelled": "cancelled",
}
STAGES = {"adapt": "Adapt", "full": "Full"}
METHODS = {"heads": "Heads", "lora": "LoRA"}
PHASES = {"adapt": "Adapt", "general": "General", "domain": "Domain"}
WAYS = {"text>image": "Text → image", "image>text": "Image → text"}
# The other traditional methods are called in reports what they are called here.
SPACES = {"model": "This model", "parent": "Parent", "regularised CCA": "Regularised CCA"}
FIGURES = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "map": "mAP", "mrr": "MRR", "median_rank": "Median rank"}
FIGURE_MEANS = (
    ("R@k", "In how many of 100 searches a right answer stands among the first k."),
    ("mAP", "Mean average precision: 1 where all right answers stand before all others."),
    ("Median rank", "At which place the first right answer stands in half of the searches, or before."),
    ("Pool", "Among how many items is searched: the more, the harder."),
    ("Interval", "95 % of resamples over groups lie in it; two that overlap widely are not told apart."),
)

PARTS = {
    "text": "words",
    "image": "picture",
    "audio": "speech",
    "video": "video",
    "vector": "vector",
    "like": "examples",
    "unlike": "not like",
}

STAGE_CHOICES = (
    (
        "adapt",
        "Adapt",
        "The encoders stay as they are; only the light layers on top learn from your pairs. Minutes on a CPU.",
    ),
    (
        "full",
        "Full",
        "Learns from a dataset of general pairs first, then from yours with the lower layers frozen. Several times the "
        "cost; for thousands of pairs.",
    ),
)
METHOD_CHOICES = (
    (
        "heads",
        "Heads",
        "Projection heads over frozen features: every picture is encoded once, then an epoch takes seconds.",
    ),
    (
        "lora",
        "LoRA",
        "Small low-rank matrices inside the text encoder learn as well. Far slower on a CPU, since every caption is "
        "read anew in each epoch; for words that the encoder does not know.",
    ),
)
