"""The tour's last step: a picture, a clip and music from words, and their marks as an audit finds them."""

from __future__ import annotations

import time
from typing import Any

from standalone.tour_client import Api, TourFailed

PROMPT = "a cat with a hat walks by the sea"
SUFFIXES = {"image": "png", "video": "mp4", "audio": "wav"}


def generate(shop: Api, dataset: str) -> None:
    print(f"\n12. Generate from “{PROMPT}”: a picture, a clip and music by the small generators that ship")
    start = time.perf_counter()
    wish = {"prompt": PROMPT, "outputs": [*SUFFIXES], "seed": 7, "seconds": 8, "dataset": dataset}
    accepted = shop.call("POST", "/generations", 202, json=wish)
    shop.ended(accepted["job"]["id"])
    made = shop.call("GET", f"/generations/{accepted['generation']['id']}")
    if made["state"] != "succeeded" or len(made["results"]) != len(SUFFIXES):
        raise TourFailed(f"the generation is {made['state']}: {made.get('error')}")
    print(f"   made in {time.perf_counter() - start:.0f} s, consistency with the words {made['score']:.3f}")
    for result in made["results"]:
        _found_as_made(shop, result)
    _found_by_search(shop, made, dataset)


def _found_as_made(shop: Api, result: dict[str, Any]) -> None:
    """What an audit sees in the file alone, as anybody would have it."""
    shop.ready(result["asset"])
    content = shop.call("GET", f"/assets/{result['asset']}/content").content
    name = f"unknown.{SUFFIXES[result['kind']]}"
    provenance = shop.audited(files={"file": (name, content)})["provenance"]
    signed, mark = provenance["c2pa"], provenance["watermark"]["state"]
    print(
        f"   {result['kind']:5}  {len(content) / 1000:6.0f} kB, {result['model']} ({result['how']}); its audit finds "
        f"credentials {signed['state']}, mark {mark}"
    )
    if not signed.get("own") or mark != "present":
        raise TourFailed(f"the audit does not find the marks of the {result['kind']}: {provenance}")


def _found_by_search(shop: Api, made: dict[str, Any], dataset: str) -> None:
    picture = next(one["asset"] for one in made["results"] if one["kind"] == "image")
    labels = shop.ready(picture)["labels"]
    found = shop.search(text=PROMPT, datasets=[dataset], generated="include", top_k=5)["results"]
    if picture not in [one["asset"]["id"] for one in found] or "ai-generated" not in labels:
        raise TourFailed(f"the search does not find the picture {picture}, labelled {labels}")
    print(f"   a search finds it, labelled {', '.join(labels)}")
