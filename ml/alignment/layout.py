"""Where everything lies in the 256 numbers of a vector, and how much each part weighs.

One plain inner product has to compare text with pictures, text with text and pictures with pictures. Each
part is zero on the side that must not see it:

=======  ====  ============================  ===========================  ==================
part     dims  in a text                     in a picture                 meets
=======  ====  ============================  ===========================  ==================
classes   116  what pictures of it show      what it shows                all
colours    11  .2 x words                    .2 x scores                  all
hub         1  .25                           -4 x bias (query: 0)         text with picture
text      104  meaning beyond the classes    0                            text with text
sight      24  0                             finer classes                picture with picture
=======  ====  ============================  ===========================  ==================

Before the last division every text has norm 1.6 and every picture 1.5: ``text`` and ``sight`` fill what the
other parts leave, so that a text ranks pictures by the parts they share and by nothing else.
"""

from __future__ import annotations

DIMENSION = 256

CLASS_DIMENSIONS = 116
COLOUR_DIMENSIONS = 11
TEXT_DIMENSIONS = 104
SIGHT_DIMENSIONS = 24

CLASSES = slice(0, 116)
COLOURS = slice(116, 127)
HUB = 127
TEXT = slice(128, 232)
SIGHT = slice(232, 256)

TEXT_NORM = 1.6
IMAGE_NORM = 1.5

#: sqrt of a colour's weight beside a similarity of 1.
COLOUR_SCALE = 0.2
#: The bias is stored four times too large and multiplied by a quarter: small numbers survive int8 indexes.
HUB_IN_TEXT = 0.25
HUB_IN_IMAGE = -4.0
