"""What comes in, checked by its content before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

from django.utils.translation import gettext as _

from ml.documents import FORMATS
from ml.documents.sniffing import OLE
from ml.passages import passages
from tenants.datasets import documents, metadata, scanning, storage
from tenants.datasets.models import Asset
from tenants.errors import Invalid, UnsupportedMedia

MAX_TEXT = 100_000
MAX_CAPTION = 10_000
# Of one asset; together they have at most MAX_CAPTIONS_LENGTH characters, which is what search by words reads of them.
MAX_CAPTIONS = 20
MAX_CAPTIONS_LENGTH = 20_000
EXCERPT = 500
MAX_EXTERNAL_ID = 200
HEAD = documents.HEAD_BYTES
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/heic")
AUDIO_TYPES = ("audio/wav", "audio/mpeg", "audio/flac", "audio/ogg", "audio/aac", "audio/mp4", "audio/webm")
VIDEO_TYPES = ("video/mp4", "video/webm", "video/quicktime", "video/x-matroska")
MODALITIES = {
    **dict.fromkeys(IMAGE_TYPES, Asset.Modality.IMAGE),
    **dict.fromkeys(AUDIO_TYPES, Asset.Modality.AUDIO),
    **dict.fromkeys(VIDEO_TYPES, Asset.Modality.VIDEO),
}
# Office files of before 2007 are taken so that reading them says what to do.
DOCUMENT_TYPES = (*FORMATS, OLE)
ACCEPTED = (*MODALITIES, *DOCUMENT_TYPES, "text/plain")
# Vectors that are reserved for a document, which nobody has read yet.
DOCUMENT_RESERVE = 16


@dataclass(frozen=True)
class Upload:
    """One asset's content: the bytes to keep (rewound), their type and digest, and the captions and name beside them.

    `vectors` is how many embedding will need: exact for texts and pictures, a reserve for sound, film and documents,
    whose length nobody knows yet. `text` is empty of a document.
    """

    content: IO[bytes]
    media_type: str
    modality: str
    captions: tuple[str, ...]
    vectors: int
    sha256: str
    bytes: int
    text: str = ""
    scan: dict[str, Any] | None = None
    filename: str = ""

    @property
    def caption(self) -> str:
        """The first of its captions."""
        return self.captions[0] if self.captions else ""

    @property
    def is_document(self) -> bool:
        return documents.is_document(self.media_type)

    @property
    def excerpt(self) -> str:
        return self.text.strip()[:EXCERPT]


def check_upload(
    file: IO[bytes] | None, text: str, *, captions: Sequence[str] = (), filename: str = ""
) -> Upload:
    """A file, a text, or a file with captions: the text, if there is one, and `captions` behind it.

    `filename` is the file's own, cleaned (`filenames.clean_filename`). A file is scanned for malware where the
    installation can. Raises Invalid, UnsupportedMedia, Infected, and Unavailable where files are only accepted scanned.
    Reading and scanning take time: call it outside of any scope.
    """
    metadata.check_text(text, "/text")
    if file is None:
        if any(caption.strip() for caption in captions):
            raise Invalid(
                _("A text asset is one text. Several are captions of a file: send the file, too."),
                pointer="/text",
            )
        return _text_upload(text, filename=filename)
    kept = check_captions([text, *captions], "/captions" if captions else "/text")
    media_type = _type_of(file, filename)
    if media_type == "text/plain":
        if kept:
            raise Invalid(
                _("A text file takes no caption: send either the file or the text."), pointer="/text"
            )
        decoded = _decoded(file)
        return _text_upload(decoded, scanning.check_upload(file), filename)
    if media_type not in ACCEPTED:
        raise UnsupportedMedia(
            _(
                "The content of this file is %(value)s. Accepted are JPEG, PNG, WebP, GIF, AVIF, HEIC; WAV, MP3, "
                "FLAC, OGG, M4A; MP4, WebM, MOV; PDF, DOCX, PPTX, XLSX, EPUB, HTML, Markdown, e-mail; and plain UTF-8 "
                "text."
            )
            % {"value": media_type or "of an unknown kind"}
        )
    # What was read of a document is its text.
    modality = MODALITIES.get(media_type, Asset.Modality.TEXT)
    if documents.is_document(media_type):
        if kept:
            raise Invalid(_("A document takes no caption: its own text is found."), pointer="/text")
        vectors = DOCUMENT_RESERVE
    else:
        vectors = _reserve(modality) + vectors_of(kept)
    scan = scanning.check_upload(file)
    sha256, length = storage.digest(file)
    return Upload(file, media_type, modality, kept, vectors, sha256, length, scan=scan, filename=filename)


def check_captions(captions: Sequence[str], pointer: str) -> tuple[str, ...]:
    """In their order, without blanks around them, empty ones and repetitions. Raises Invalid for what is too much."""
    kept = tuple(dict.fromkeys(caption.strip() for caption in captions if caption.strip()))
    for caption in kept:
        metadata.check_text(caption, pointer)
        if len(caption) > MAX_CAPTION:
            raise Invalid(
                _("A caption has at most %(caption)s characters.") % {"caption": MAX_CAPTION}, pointer=pointer
            )
    if not fits(kept):
        raise Invalid(
            _("An asset has at most %(count)s captions, of %(characters)s characters together.")
            % {"count": MAX_CAPTIONS, "characters": MAX_CAPTIONS_LENGTH},
            pointer=pointer,
        )
    return kept


def fits(captions: Sequence[str]) -> bool:
    """Whether one asset may have all of these captions."""
    return len(captions) <= MAX_CAPTIONS and sum(map(len, captions)) <= MAX_CAPTIONS_LENGTH


def vectors_of(captions: Sequence[str]) -> int:
    """How many vectors these captions have in one space."""
    return sum(len(passages(caption)) for caption in captions)


def reserve_of(asset: Asset) -> int:
    """How many vectors are reserved for embedding a stored asset; the job settles what it really takes."""
    if documents.is_document(asset.blob.media_type):
        return DOCUMENT_RESERVE
    return (
        1 if asset.modality == Asset.Modality.TEXT else _reserve(asset.modality) + vectors_of(asset.captions)
    )


def _reserve(modality: str) -> int:
    return {Asset.Modality.IMAGE: 1, Asset.Modality.AUDIO: 8, Asset.Modality.VIDEO: 32}[
        Asset.Modality(modality)
    ]


def _type_of(file: IO[bytes], filename: str) -> str | None:
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise Invalid(_("The file is empty."), pointer="/file")
    return documents.type_of(head, filename)


def _decoded(file: IO[bytes]) -> str:
    raw = file.read(4 * MAX_TEXT + 4)
    if len(raw) > 4 * MAX_TEXT + 3:
        raise _too_long()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(_("Text files must be UTF-8."), pointer="/file") from error


def _too_long() -> Invalid:
    return Invalid(
        _("A text has at most %(text)s characters; split it.") % {"text": MAX_TEXT}, pointer="/text"
    )


def _text_upload(text: str, scan: dict[str, object] | None = None, filename: str = "") -> Upload:
    metadata.check_text(text, "/text")
    if not text.strip():
        raise Invalid(_("Send a file, a text, or both."), pointer="/file")
    if len(text) > MAX_TEXT:
        raise _too_long()
    content = BytesIO(text.encode())
    sha256, length = storage.digest(content)
    vectors = len(passages(text))
    return Upload(
        content, "text/plain", Asset.Modality.TEXT, (), vectors, sha256, length, text, scan, filename
    )


def check_external_id(external_id: str | None) -> str | None:
    """None for none; raises Invalid for one that cannot be stored."""
    if external_id is None or external_id == "":
        return None
    metadata.check_text(external_id, "/external_id")
    if len(external_id) > MAX_EXTERNAL_ID:
        raise Invalid(
            _("At most %(external_id)s characters.") % {"external_id": MAX_EXTERNAL_ID},
            pointer="/external_id",
        )
    return external_id
