"""Media from strangers: recognised by content, decoded in a limited child process.

What stands here is for everybody, and ``previews`` beside it.

>>> sniff(b"\\x89PNG\\r\\n\\x1a\\n")
'image/png'
"""

from ml.media.decoder import Decoder
from ml.media.fair_queue import FairQueue, QueueFull
from ml.media.model import TRANSIENT, DecodedImage, Frame, MediaError, MediaInfo, Sound
from ml.media.sniffing import HEAD_BYTES, sniff

__all__ = [
    "HEAD_BYTES",
    "TRANSIENT",
    "DecodedImage",
    "Decoder",
    "FairQueue",
    "Frame",
    "MediaError",
    "MediaInfo",
    "QueueFull",
    "Sound",
    "sniff",
]
