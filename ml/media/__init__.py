"""Media from strangers: recognised by content, decoded in a limited child process.

>>> sniff(b"\\x89PNG\\r\\n\\x1a\\n")
'image/png'
"""

from ml.media.decoder import Decoder
from ml.media.model import TRANSIENT, DecodedImage, Frame, MediaError, MediaInfo, Sound
from ml.media.sniffing import sniff

__all__ = ["TRANSIENT", "DecodedImage", "Decoder", "Frame", "MediaError", "MediaInfo", "Sound", "sniff"]
