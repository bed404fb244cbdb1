"""Made-up captions: who, wearing what, doing what, where. They stand for the queries that people will type.

No classes belong to them: they only span the space (its axes) and show which pictures are near everything
(hubs, Radovanović et al. 2010, JMLR 11).
"""

from __future__ import annotations


def _words(text: str, or_nothing: bool = False) -> list[str]:
    """The parts of a comma-separated text, with "" in front if a caption may do without."""
    words = [" ".join(part.split()) for part in text.split(",")]
    return ["", *words] if or_nothing else words


WHO = _words(
    """
    a man, a woman, a boy, a girl, a young man, a young woman, a little girl, a little boy, two men, two
    women, two boys, two girls, a child, a toddler, a group of people, several people, three men, a
    couple, children, an old man, a person, a dog, a black dog, a brown dog, two dogs, a white dog, a
    small dog
    """
)
WEARING = _words(
    """
    in a red shirt, in a blue shirt, in a white dress, wearing a hat, in a black jacket, wearing
    sunglasses, in a yellow coat, in green, wearing a helmet, in jeans, with a backpack
    """,
    or_nothing=True,
)
DOING = _words(
    """
    running, sitting, standing, jumping, playing, walking, looking at the camera, smiling, holding
    something, climbing, riding, lying down, swimming, eating, talking, fighting, dancing, posing,
    catching a ball, throwing a ball, reading, working, watching
    """
)
WHERE = _words(
    """
    on the beach, in the park, on the street, in the snow, in the water, on the grass, in a field, at a
    table, on a bench, in front of a building, in the city, in the woods, on a rock, near a lake, on a
    mountain, indoors, in a room, in a kitchen, at night, on a road, in a crowd, on stage, near a fence,
    in a pool, on a couch, in a shop, in a garden
    """,
    or_nothing=True,
)

#: Steps through the four lists. None divides its list's length, so the combinations hardly repeat.
_STRIDES = (1, 5, 10, 9)


def scenes(count: int = 1500) -> list[str]:
    """``count`` captions, always the same ones."""
    return [_scene(number) for number in range(count)]


def _scene(number: int) -> str:
    lists = (WHO, WEARING, DOING, WHERE)
    turn = number // len(WHO)
    parts = [
        words[(number * stride + turn) % len(words)] for words, stride in zip(lists, _STRIDES, strict=True)
    ]
    return " ".join(part for part in parts if part)
