"""Where everything lies in the 256 numbers of a vector, and how much each part weighs.

One plain inner product has to compare text with pictures, text with text and pictures with pictures. Each
part below is zero on the side that must not see it:

========  ====  =========================  ===================================  =======================
part      dims  in a text                  in a picture                         meets
========  ====  =========================  ===================================  =======================
classes    128  what it would look like    what is seen                         all
colours     11  .2 x words                 .2 x scores                          all
hub          1  .25                        -4 x bias                            text with picture
text       114  meaning beyond classes     0                                    text with text
padding      1  0                          what is missing to the common norm   pictures (query: 0)
spare        1  0                          0                                    nothing
========  ====  =========================  ===================================  =======================

Texts have norm 2 and pictures 1.5 before the last division, so that rankings are those of the parts.
"""

from __future__ import annotations

DIMENSION = 256

CLASS_DIMENSIONS = 128
COLOUR_DIMENSIONS = 11
TEXT_DIMENSIONS = 114

CLASSES = slice(0, 128)
COLOURS = slice(128, 139)
HUB = 139
TEXT = slice(140, 254)
PADDING = 254

TEXT_NORM = 2.0
IMAGE_NORM = 1.5

#: sqrt of a colour's weight beside a similarity of 1.
COLOUR_SCALE = 0.2
#: The bias is stored four times too large and multiplied by a quarter: small numbers survive int8 indexes.
HUB_IN_TEXT = 0.25
HUB_IN_IMAGE = -4.0
