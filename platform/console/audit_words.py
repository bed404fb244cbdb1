"""What the codes of an audit mean to a reader; nothing here turns "did not look" into "fine"."""

from __future__ import annotations

DECISIONS = {"allow": "Allowed", "label": "Labelled", "review": "To be reviewed", "block": "Blocked"}
VERDICTS = {
    "likely_synthetic": "Likely synthetic",
    "inconclusive": "Inconclusive",
    "no_evidence": "No evidence",
    "not_examined": "Not examined",
}
MODES = {
    "enforce": "It was carried out.",
    "shadow": "It was only noted, and the item stayed as it was: the version runs in shadow or for other items, or the "
    "item is blocked or waits for a person, which a new audit does not overrule.",
    "off": "No policy was in force, so nothing was decided and the item stayed as it was.",
}
# What an asset stands at.
MODERATION = {
    "": "Not audited",
    "quarantined": "Held back",
    "allow": "Allowed",
    "label": "Labelled",
    "review": "Waits for a review",
    "block": "Blocked",
}
LABELS = {
    "ai-generated": "AI-generated",
    "coarse-language": "Coarse language",
    "graphic-content": "Graphic content",
    "content-credentials": "Content credentials",
}
AI_GENERATED = "ai-generated"
CATEGORIES = {
    "abuse": "Abuse",
    "hate": "Hate",
    "profanity": "Profanity",
    "personal_data": "Personal data",
    "self_harm": "Self-harm",
    "sexual": "Sexual",
    "violence": "Violence",
    "spam": "Spam",
    "nudity": "Nudity",
}
STATES = {
    "examined": "Examined",
    "abstained": "Could not tell",
    "not_applicable": "Nothing to look at",
    "not_installed": "Not installed",
    "not_examined": "Not examined",
    "failed": "Failed",
}
# A detector's tier, in one word.
TIERS = {
    "cryptographic": "Signed",
    "declared": "Declared",
    "statistical": "Estimated",
    "match": "Matched",
    "rules": "By rule",
}
# Each tier's own verdict about authenticity, as a sentence.
SAYINGS = {
    "cryptographic": {
        "likely_synthetic": "Says that it was generated. That is as certain as the signature or the mark.",
        "inconclusive": "Its credentials do not fit the file: it was changed, or they belong to another one.",
        "no_evidence": "Nothing signed says that it was generated. Most files carry no credentials at all.",
        "not_examined": "Nothing looked for signatures or marks.",
    },
    "declared": {
        "likely_synthetic": "The file itself says that it was generated. Anybody can write or remove that.",
        "inconclusive": "What the file says of itself does not fit together.",
        "no_evidence": "The file does not say that it was generated. That is easily removed.",
        "not_examined": "What the file says of itself was not read.",
    },
    "statistical": {
        "likely_synthetic": "A detector estimates that it was generated or changed. That is no proof.",
        "inconclusive": "The estimate lies in the band where it means nothing.",
        "no_evidence": "No detector that looked found a sign. That is no proof that it is genuine.",
        "not_examined": "No detector could estimate it: none is for this kind of content, or each abstained.",
    },
}
C2PA = {
    "absent": "There are no content credentials.",
    "trusted": "Intact, and signed by somebody whom this workspace trusts.",
    "valid": "Intact, but the signer is not on the list of trusted ones: anybody could have signed it.",
    "invalid": "They do not fit the file: it was changed after signing, or they belong to another file.",
    "not_examined": "Not examined.",
}
DECLARED = {
    "found": "Its metadata name a generator.",
    "none": "Its metadata name no generator.",
    "not_examined": "Not examined.",
}
WATERMARK = {
    "present": "The invisible mark of this installation is in it.",
    "absent": "The invisible mark of this installation is not in it.",
    "not_examined": "Not examined.",
}
ORIGINS = {
    "text": "In the text",
    "caption": "In the caption",
    "transcript": "Spoken",
    "picture": "Written in the picture",
}
ALGORITHMS = {
    "sha256": "the very same file",
    "pdq": "picture hash (PDQ)",
    "vector": "neighbour by its vector",
    "sound": "sound fingerprint",
}
MODALITIES = {"text": "Text", "image": "Picture", "audio": "Recording", "video": "Film"}
# Names in `could_not_look` that are no detector's.
COULD_NOT = {"decoding": "reading the file", "everything": "the audit as a whole"}
REVIEW_KINDS = {"flag": "Flag", "second": "Second opinion", "appeal": "Appeal"}
RULES = {"detector-failed": "Something could not look", "appeal": "Somebody appealed"}


def label_of(label: str) -> str:
    return LABELS.get(label, label)
