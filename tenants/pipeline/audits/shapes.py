"""What anybody is told about a file, as the API's document names it."""

from __future__ import annotations

from typing import Annotated

from tenants.shapes import Choices, Doc, Shape

MADE_HERE = ("yes", "possibly", "no-sign-found")
SIGNS = ("credentials", "changed-credentials", "picture-mark", "sound-mark")
FILE_KINDS = ("picture", "clip", "sound")


TIME_STAMPS = ("trusted", "unknown-authority", "invalid")


class PublicAction(Shape, kw_only=True):
    action: Annotated[str, Doc("As C2PA names it: `c2pa.created`.")]
    digital_source_type: Annotated[
        str | None,
        Doc("A code of IPTC's list: `trainedAlgorithmicMedia`, `algorithmicMedia`, `compositeSynthetic`."),
    ]
    software_agent: Annotated[str | None, Doc("The model's family, without version and digest.")]
    month: Annotated[str | None, Doc("YYYY-MM, in UTC.")]


class PublicAssertion(Shape, kw_only=True):
    label: str
    actions: Annotated[list[PublicAction], Doc("Empty for what only binds the manifest to the content.")]


class PublicTimeStamp(Shape, kw_only=True):
    state: Annotated[
        str,
        Choices(TIME_STAMPS),
        Doc(
            "`trusted`: it stamps this signature, by an authority that this installation trusts. `unknown-authority`: "
            "likewise, by another one, which proves less. `invalid`: it does not fit."
        ),
    ]
    month: Annotated[str | None, Doc("YYYY-MM, in UTC, in which the signature was there already.")]


class PublicManifest(Shape, kw_only=True):
    """What of the signed manifest is for everybody. The file itself holds more, for whoever reads it."""

    claim_generator: str
    assertions: list[PublicAssertion]
    time_stamp: Annotated[PublicTimeStamp | None, Doc("Of the signature (RFC 3161); null without one.")]


class PublicCheck(Shape, kw_only=True):
    made_here: Annotated[
        str,
        Choices(MADE_HERE),
        Doc(
            "By this installation. `no-sign-found` is no proof of anything: marks can be lost, and others' generators "
            "leave none of ours."
        ),
    ]
    signs: Annotated[
        list[str],
        Doc(
            "By what: `credentials` (ours and intact), `changed-credentials` (ours, of other content), `picture-mark`, "
            "`sound-mark`."
        ),
    ]
    kind: Annotated[str, Choices(FILE_KINDS)]
    model: Annotated[str | None, Doc("The model's family, where intact credentials name it.")]
    month: Annotated[str | None, Doc("YYYY-MM, in UTC, where intact credentials name it.")]
    manifest: PublicManifest | None
