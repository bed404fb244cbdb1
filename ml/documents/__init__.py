"""Documents from strangers: PDF, office files, EPUB, HTML, Markdown and e-mail, read in a limited child process.

    with Reader() as reader:
        document = reader.read(path, media_type)       # media_type by sniff(head, filename)
        document.text_of(document.blocks[0])

Nothing in a document is run, fetched or opened: scripts, macros, attachments and outside addresses become findings.
"""

from ml.documents.model import (
    MARGINS,
    TRANSIENT,
    Block,
    Document,
    DocumentError,
    Finding,
    Limits,
    Line,
)
from ml.documents.reader import Reader
from ml.documents.sniffing import FORMATS, HEAD_BYTES, sniff

__all__ = [
    "FORMATS",
    "HEAD_BYTES",
    "MARGINS",
    "TRANSIENT",
    "Block",
    "Document",
    "DocumentError",
    "Finding",
    "Limits",
    "Line",
    "Reader",
    "sniff",
]
