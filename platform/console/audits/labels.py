"""What the codes of an audit mean to a reader; nothing here turns "did not look" into "fine"."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

DECISIONS = {
    "allow": _("Allowed"),
    "label": _("Labelled"),
    "review": _("In review"),
    "block": _("Blocked"),
}

VERDICTS = {
    "likely_synthetic": _("Likely synthetic"),
    "likely_manipulated": _("Likely manipulated"),
    "inconclusive": _("Inconclusive"),
    "no_evidence": _("No evidence"),
    "not_examined": _("Not examined"),
}

MODES = {
    "enforce": _("It was applied."),
    "shadow": _(
        "It was only noted, and the item stayed as it was: the version runs in shadow or for other items, or the "
        "item is blocked or waits for a person, which a new audit does not overrule."
    ),
    "off": _("No policy was in effect, so nothing was decided and the item stayed as it was."),
}

# What an asset stands at.
MODERATION = {
    "": _("Not audited"),
    "quarantined": _("Held back"),
    "allow": _("Allowed"),
    "label": _("Labelled"),
    "review": _("Waits for a review"),
    "block": _("Blocked"),
}

LABELS = {
    "ai-generated": _("AI-generated"),
    "coarse-language": _("Coarse language"),
    "graphic-content": _("Graphic content"),
    "content-credentials": _("Content credentials"),
}

CATEGORIES = {
    "abuse": _("Abuse"),
    "hate": _("Hate"),
    "insult": _("Insult"),
    "threat": _("Threat"),
    "profanity": _("Profanity"),
    "personal_data": _("Personal data"),
    "self_harm": _("Self-harm"),
    "sexual": _("Sexual"),
    "violence": _("Violence"),
    "spam": _("Spam"),
    "nudity": _("Nudity"),
}

# What a category is about, for whoever chooses one.
CATEGORY_ABOUT = {
    "abuse": _("Attacks or belittles someone."),
    "hate": _("Attacks people for their origin, religion, sex, disability or similar."),
    "insult": _("Calls someone names."),
    "threat": _("Threatens to harm someone."),
    "profanity": _("Coarse language, even where no one is attacked."),
    "personal_data": _("Phone numbers, addresses, document numbers and similar."),
    "self_harm": _("Mentions suicide or self-harm."),
    "sexual": _("Shows or describes sex."),
    "violence": _("Shows or describes violence."),
    "spam": _("Unwanted advertising, or fraud."),
    "nudity": _("Shows nudity."),
}

# What rules can be about beside categories (tenants.moderation.rules.conditions.SIGNS).
SIGNS = {
    "known_bad": _("Known bad content"),
    "known_good": _("Known good content"),
    "declared_ai": _("Declared as made by AI"),
    "estimated_ai": _("Estimated to be made by AI"),
    "credentials_broken": _("Content credentials do not fit"),
    "everything": _("Everything"),
    "strikes": _("Strikes of the sender"),
}

SIGN_ABOUT = {
    "known_bad": _("It matches an entry of a hash list of bad content."),
    "known_good": _("The identical file is on a hash list of good content."),
    "declared_ai": _("Its credentials, its metadata or this installation’s watermark say so."),
    "estimated_ai": _("A detector estimates it. That is no proof."),
    "credentials_broken": _("The file was changed after signing, or the credentials belong to another one."),
    "everything": _("Matches every item, or every item of the kinds and datasets below."),
    "strikes": _("So many items of the same sender were blocked, and the strikes have not expired."),
}

# What a rule does, as it is chosen.
THEN = {
    "allow": _("Allow"),
    "label": _("Label"),
    "review": _("Send to review"),
    "block": _("Block"),
}

# What the checks of a policy warn of, in the words of the form.
WARNINGS = {
    "never-fires": _("It can never apply."),
    "unreachable": _("It is never evaluated: an earlier rule stops evaluation."),
    "always-fires": _("It applies to everything."),
    "same-condition": _("An earlier rule has the same condition."),
    "unknown-value": _("It compares with something that never occurs."),
    "missing-detector": _("It uses a detector that is not installed."),
    "not-installed": _("It uses a detector that is not fully installed."),
    "not-examined": _("Nothing here looks for this, so it never applies."),
    "category-off": _(
        "This category is off in the policy, so it is never flagged. A score of its own works."
    ),
    "missing-list": _("It refers to a hash list that does not exist."),
}

# What has to be said beside every score of a detector.
CAVEATS = {"nudity": _("its miss rate has not been measured")}

STATES = {
    "examined": _("Examined"),
    "abstained": _("Inconclusive result"),
    "not_applicable": _("Nothing to look at"),
    "not_installed": _("Not installed"),
    "not_examined": _("Not examined"),
    "failed": _("Failed"),
}

# A detector's tier, in one word.
TIERS = {
    "cryptographic": _("Signed"),
    "declared": _("Declared"),
    "statistical": _("Estimated"),
    "match": _("Matched"),
    "rules": _("By rule"),
}

# Each tier's own verdict about authenticity, as a sentence.
SAYINGS = {
    "cryptographic": {
        "likely_synthetic": _("Says that it was generated. That is as certain as the signature or the mark."),
        "inconclusive": _(
            "Its credentials do not fit the file: it was changed, or they belong to another one."
        ),
        "no_evidence": _(
            "Nothing signed says that it was generated. Most files carry no credentials at all."
        ),
        "not_examined": _("Nothing looked for signatures or marks."),
    },
    "declared": {
        "likely_synthetic": _("The file itself says that it was generated. Anyone can write or remove that."),
        "inconclusive": _("What the file says of itself does not fit together."),
        "no_evidence": _("The file does not say that it was generated. That is easily removed."),
        "not_examined": _("What the file says of itself was not read."),
    },
    "statistical": {
        "likely_synthetic": _("A detector estimates that it was generated. That is no proof."),
        "likely_manipulated": _(
            "A detector estimates that parts of it were changed. That is no proof: things that are alike, such as "
            "packages on a shelf, can look like copies."
        ),
        "inconclusive": _("The estimate lies in the band where it means nothing."),
        "no_evidence": _(
            "No detector of generated content that looked found a sign. That is no proof that it is genuine."
        ),
        "not_examined": _(
            "Nothing looked for signs of generation: no detector here is for this kind of content, or each abstained."
        ),
    },
}

# Of an estimate of changes that does not make the tier's verdict.
CHANGES = {
    "inconclusive": _("Parts of it look alike, in the band where that means nothing."),
    "no_evidence": _("Nothing in it was found twice."),
}

# What a tier looked for.
LOOKED_FOR = {
    "content_credentials": _("content credentials"),
    "own_watermark": _("this installation's own mark"),
    "metadata": _("what the file's metadata says"),
    "generated_pictures": _("generated pictures"),
    "synthetic_faces": _("synthetic faces"),
    "synthetic_speech": _("synthetic speech"),
    "copied_regions": _("copied regions"),
}

# What was found where the item comes from, in one word.
PROVENANCE = {
    "absent": pgettext_lazy("provenance", "Absent"),
    "trusted": pgettext_lazy("provenance", "Trusted"),
    "valid": pgettext_lazy("provenance", "Valid"),
    "invalid": pgettext_lazy("provenance", "Invalid"),
    "found": pgettext_lazy("provenance", "Found"),
    "none": pgettext_lazy("provenance", "None"),
    "present": pgettext_lazy("provenance", "Present"),
    "not_examined": _("Not examined"),
}

# What the verdict of an audit rests on.
VERSIONED = {"policy": _("Version of the policy"), "detectors": _("Version of the detectors")}

C2PA = {
    "absent": _("There are no content credentials."),
    "trusted": _("Intact, and signed by a party this workspace trusts."),
    "valid": _("Intact, but the signer is not on the list of trusted ones: anyone could have signed it."),
    "invalid": _("They do not fit the file: it was changed after signing, or they belong to another file."),
    "not_examined": _("Not examined."),
}

# Why the signer of intact credentials is not believed. Audits of before this was told have C2PA's sentence.
TIME_STAMPS = {
    "trusted": _("Time stamp verified; the authority is trusted here."),
    "unknown-authority": _("Time stamp verified; the authority is not known here."),
    "invalid": _("It has a time stamp that does not fit its signature."),
    "unavailable": _("Signed without a time stamp: none could be had."),
}

CERTIFICATES = {
    "untrusted": C2PA["valid"],
    "expired": _(
        "Intact: nothing was changed since it was signed. But the signer’s certificate has expired, so it does not "
        "prove who signed it."
    ),
    "revoked": _(
        "Intact: nothing was changed since it was signed. But the signer’s certificate was revoked, so it does not "
        "prove who signed it."
    ),
    "unsuitable": _(
        "Intact: nothing was changed since it was signed. But the signer’s certificate is not one for signing "
        "content, so it does not prove who signed it."
    ),
}

DECLARED = {
    "found": _("Its metadata names a generator."),
    "none": _("Its metadata names no generator."),
    "not_examined": _("Not examined."),
}

WATERMARK = {
    "present": _("The invisible mark of this installation is in it."),
    "absent": _("The invisible mark of this installation is not in it."),
    "not_examined": _("Not examined."),
}

ORIGINS = {
    "text": _("In the text"),
    "caption": _("In the caption"),
    "transcript": _("Spoken"),
    "picture": _("Written in the picture"),
}

ALGORITHMS = {
    "sha256": _("identical file"),
    "pdq": _("picture hash (PDQ)"),
    "vector": _("similar vector"),
    "sound": _("sound fingerprint"),
}

# By what an item without vectors is similar to the one that is reviewed.
PRINTS = {
    "sha256": _("the same content"),
    "pdq": _("picture hash (PDQ)"),
    "frames": _("frames of the film"),
    "sound": _("sound fingerprint"),
    "words": _("words"),
    "looks": _("looks alike"),
}

MODALITIES = {"text": _("Text"), "image": _("Picture"), "audio": _("Recording"), "video": _("Film")}

# Names in `could_not_look` that are no detector's.
COULD_NOT = {
    "decoding": _("reading the file"),
    "decoder": _("the process that reads the file"),
    "everything": _("the audit as a whole"),
}

REVIEW_KINDS = {"flag": _("Flag"), "second": _("Second opinion"), "appeal": _("Appeal")}

APPEAL_STATES = {
    "open": pgettext_lazy("appeal", "Open"),
    "upheld": _("Decision upheld"),
    "overturned": _("Decision overturned"),
}

RULES = {"detector-failed": _("Something could not look"), "appeal": _("Appealed")}

# What a detector notes of a thing that it saw, and the values of it that are codes.
EVIDENCE = {
    "list": pgettext_lazy("evidence", "list"),
    "term": pgettext_lazy("evidence", "term"),
    "meaning": pgettext_lazy("evidence", "meaning"),
    "type": pgettext_lazy("evidence", "type"),
    "sensitive": pgettext_lazy("evidence", "sensitive"),
    "masked": pgettext_lazy("evidence", "masked"),
    "confidence": pgettext_lazy("evidence", "confidence"),
    "checked": pgettext_lazy("evidence", "checked"),
    "score": pgettext_lazy("evidence", "score"),
    "calibrated": pgettext_lazy("evidence", "calibrated"),
    "label": pgettext_lazy("evidence", "label"),
    "name": pgettext_lazy("evidence", "name"),
    "reason": pgettext_lazy("evidence", "reason"),
    "keypoints": pgettext_lazy("evidence", "keypoints"),
    "agreement": pgettext_lazy("evidence", "agreement"),
    "scaled": pgettext_lazy("evidence", "scaled"),
    "turned_degrees": pgettext_lazy("evidence", "turned degrees"),
    "start_s": pgettext_lazy("evidence", "start s"),
    "end_s": pgettext_lazy("evidence", "end s"),
    "frames": pgettext_lazy("evidence", "frames"),
    "known": pgettext_lazy("evidence", "known"),
}

MEANINGS = {
    "offence": pgettext_lazy("evidence", "offence"),
    "hint": pgettext_lazy("evidence", "hint"),
    "listed": pgettext_lazy("evidence", "listed"),
    "person_at_risk": pgettext_lazy("evidence", "person at risk"),
    "support": pgettext_lazy("evidence", "support"),
}

SENSITIVE = {
    "high": pgettext_lazy("sensitivity", "high"),
    "medium": pgettext_lazy("sensitivity", "medium"),
    "low": pgettext_lazy("sensitivity", "low"),
}

# Kinds of personal data.
IDENTIFIERS = {
    "email": _("e-mail address"),
    "phone": _("phone number"),
    "iban": _("bank account (IBAN)"),
    "payment_card": _("payment card"),
    "bitcoin_wallet": _("Bitcoin wallet"),
    "tron_wallet": _("Tron wallet"),
    "ethereum_wallet": _("Ethereum wallet"),
    "passport": _("passport"),
    "ip_address": _("IP address"),
    "mac_address": _("MAC address"),
    "coordinates": _("coordinates"),
    "date_of_birth": _("date of birth"),
    "chinese_resident_id": _("Chinese resident identity number"),
    "chinese_number_plate": _("Chinese number plate"),
    "hong_kong_id": _("Hong Kong identity card"),
    "taiwanese_id": _("Taiwan identity number"),
    "french_social_security": _("French social security number"),
    "italian_fiscal_code": _("Italian tax code"),
    "mexican_curp": _("Mexican CURP"),
    "us_social_security": _("US social security number"),
    "brazilian_cpf": _("Brazilian CPF"),
    "russian_snils": _("Russian SNILS"),
    "korean_resident_number": _("Korean resident number"),
    "singapore_nric": _("Singapore NRIC"),
    "indian_pan": _("Indian PAN"),
    "indian_aadhaar": _("Indian Aadhaar number"),
    "uk_national_insurance": _("UK National Insurance number"),
    "uk_nhs_number": _("UK NHS number"),
    "german_tax_id": _("German tax ID"),
    "spanish_id": _("Spanish identity number"),
    "japanese_my_number": _("Japanese My Number"),
    "canadian_sin": _("Canadian social insurance number"),
}

# Codes by the name that they stand under.
EVIDENCE_VALUES = {"meaning": MEANINGS, "sensitive": SENSITIVE, "type": IDENTIFIERS}


def label_of(label: str) -> Any:
    return LABELS.get(label, label)
