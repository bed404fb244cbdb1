"""Pictures of every page, to be looked at: `python -m tests.console.screens [FOLDER]`.

A stack of its own with the demo, on which things are really done first: audits by a policy, a fine-tune, a map and
webhooks with deliveries. Every page in light and dark colours, on a phone and in Chinese goes to FOLDER as PNG (by
default below $DATA_DIR); small copies of a choice go to docs/screens as WebP.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from standalone.stack import Stack, running_stack
from tests.console.browsing import CHROMIUM, FLAGS
from tests.console.furnish import ROOT, furnish_beside
from tests.flows.client import Client
from tests.tenants.receiver import Receiver, plain, receiving
from tests.waiting import pause, until

HOME = Path(os.environ.get("DATA_DIR") or ROOT / "var") / "bench" / "screens"
KEPT = ROOT / "docs" / "screens"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
    "zh": {"locale": "zh-CN"},
}
#: Of the looks beside light only these are kept in the repository; README shows some of them at full size.
CHOICE = (
    *("home", "search+results", "map", "review+open", "audit+evidence", "model", "jobs", "operator-index"),
    *("generate", "generation"),
)
SHOWN = ("search+results", "map", "audit+evidence", "operator-index", "generation")
PROMPTS = ("a red apple", "a cat with a hat walks by the sea", "a yellow sun", "a green tree", "a blue fish")
# Whose page is shown: one that the small generator knows.
SHOWN_PROMPT = "a yellow sun"
TOLD = 4
TALLEST, WIDTH, SHOWN_WIDTH, QUALITY = 1500, 640, 1280, 62
LOCAL = {
    "WEBHOOK_ALLOW_HTTP": "1",
    "WEBHOOK_PORTS": "1024-65535",
    "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
    # A workspace has one training at a time: the one that is shown.
    "DEMO_MODEL": "0",
}
POLICY = {
    "name": "Marketplace",
    "description": "What sellers put up is looked at before it is shown.",
    "audit_uploads": True,
    "rules": [
        {
            "id": "personal-data",
            "when": "categories.personal_data.flagged",
            "then": "review",
            "reason": "It holds personal data.",
        },
        {"id": "seen", "when": "item.modality == 'image'", "then": "label", "reason": "New.", "labels": ["new"]},
    ],
}  # fmt: skip
TEXTS = (
    "Fresh pears, picked this morning. Call me on +44 20 7946 0958 or write to ann.bee@orchard.example.",
    "Fresh pears from the orchard, picked this morning.",
    "Pay to GB33 BUKB 2020 1555 5555 55 and the crate is yours.",
    "Two for the price of one on oat milk until Sunday.",
)


def main() -> None:
    out = Path(sys.argv[1]) if sys.argv[1:] else HOME / "png"
    HOME.mkdir(parents=True, exist_ok=True)
    with running_stack(HOME, demo=True, extra_env=LOCAL) as stack, sync_playwright() as play:
        addresses = _addresses(stack)
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for look, options in LOOKS.items():
            for name, page in _opened(stack, chromium, addresses, options):
                _keep(name, look, _picture(page), out)
        chromium.close()


# --- What is to be seen ------------------------------------------------------------------------------------------


def _addresses(stack: Stack) -> dict[str, dict[str, Any]]:
    """Who opens which pages: the grocery's owner what was really done there, others the rest."""
    kept = HOME / "addresses.json"
    if not kept.exists():
        gallery = furnish_beside(stack)
        grocery = next(one for one in stack.demo["tenants"] if one["slug"] == "grocery")
        real = _really(stack, Client(stack.base_url, grocery["api_key"]), grocery["datasets"])
        rest = {name: page for name, page in gallery["pages"].items() if name not in real}
        operators = {f"operator-{name}": page for name, page in gallery["operator"]["pages"].items()}
        kept.write_text(
            json.dumps(
                {
                    "grocery": {**grocery, "pages": real},
                    "gallery": {**gallery, "pages": rest},
                    "operator": {**gallery["operator"], "pages": operators},
                }
            )
        )
    return dict(json.loads(kept.read_text()))


def _really(stack: Stack, shop: Client, datasets: dict[str, str]) -> dict[str, str]:
    """Done as a client does it: addresses of what came of it."""
    products = datasets["products"]
    pictures = shop.json("GET", f"/datasets/{products}/assets?limit=40&modality=image")["results"]
    tuned = shop.json(
        "POST", "/finetunes", 202, json={"dataset": products, "epochs": 8, "name": "Shelf pictures"}
    )
    policy = shop.json("POST", "/policies", 201, json=POLICY)["policy"]["id"]
    shop.json("POST", f"/policies/{policy}/activate", json={"version": 1, "mode": "enforce"})
    audits = [shop.json("POST", "/audits", 202, json={"asset": one["id"]}) for one in pictures[:8]]
    audits += [
        shop.json("POST", "/audits", 202, json={"text": text, "subject": "seller-17"}) for text in TEXTS
    ]
    for asked in audits:
        shop.wait(asked["job"], 600)
    made = [_generated(shop, prompt) for prompt in PROMPTS]
    reviews = shop.json("GET", "/reviews")["results"]
    shop.json("POST", "/maps", 201, json={"method": "pca"})
    job = shop.wait(tuned["job"], 1200)
    return {
        "home": "/",
        "search+results": "/search?q=ripe+yellow+fruit",
        "datasets": "/datasets",
        "dataset": f"/datasets/{products}",
        "asset": f"/assets/{pictures[0]['id']}",
        "audits": "/audits",
        "audit+evidence": f"/audits/{audits[8]['audit']['id']}",
        "audit": f"/audits/{audits[0]['audit']['id']}",
        "reviews": "/reviews",
        **({"review+open": f"/reviews/{reviews[0]['id']}"} if reviews else {}),
        "policies": "/policies",
        "policy": f"/policies/{policy}",
        "policy-edit": f"/policies/{policy}/edit",
        "models": "/models",
        "model": f"/models/{tuned['model']['id']}",
        "map": "/map?key=aisle",
        "generate": "/generate",
        "generation": f"/generate/{made[PROMPTS.index(SHOWN_PROMPT)]}",
        "jobs": "/jobs",
        "job": f"/jobs/{job['id']}",
        **_webhooks(shop),
    }


def _generated(shop: Client, prompt: str) -> str:
    wish = {"prompt": prompt, "outputs": ["image", "video", "audio"], "seed": 7}
    asked = shop.json("POST", "/generations", 202, json=wish)
    shop.wait(asked["job"], 600)
    return str(asked["generation"]["id"])


def _webhooks(shop: Client) -> dict[str, str]:
    """One endpoint that answers, and fails now and then."""
    with receiving() as receiver:
        made = shop.json("POST", "/webhooks", 201, json={"url": receiver.url, "description": "Warehouse"})
        hook = made["webhook"]["id"] if "webhook" in made else made["id"]
        # The last one says that nobody is there any more, which ends the endpoint.
        receiver.answer = lambda handler, number: plain(204 if number < TOLD else 410)(handler, number)
        for number in range(1, TOLD + 1):
            shop.json("POST", f"/webhooks/{hook}/test", 202)
            until(partial(_was_told, receiver, number), 60, lambda: "the webhook was not told")
        pause(1, "until the last answer is noted")
    return {"webhooks": "/webhooks", "webhook": f"/webhooks/{hook}"}


def _was_told(receiver: Receiver, number: int) -> bool:
    return len(receiver.requests) >= number


# --- Taking the pictures -------------------------------------------------------------------------------------


def _opened(
    stack: Stack, chromium: Browser, addresses: dict[str, dict[str, Any]], options: dict[str, Any]
) -> Iterator[tuple[str, Page]]:
    for who in addresses.values():
        chosen = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce", **options}
        context = chromium.new_context(base_url=stack.base_url, **chosen)
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.goto("/login")
        yield from [("login", page)] if "home" in who["pages"] else []
        page.locator("[name=username]").fill(who["user"])
        page.locator("[name=password]").fill(who["password"])
        page.locator("[name=password]").press("Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        for name, address in who["pages"].items():
            if name != "login":
                page.goto(address, wait_until="load")
                page.wait_for_timeout(700 if name in CHOICE else 150)
                yield name, page
        context.close()


def _picture(page: Page) -> Image.Image:
    tall = min(TALLEST, page.evaluate("document.documentElement.scrollHeight"))
    size = page.viewport_size or {"width": 1280, "height": 860}
    clip = {"x": 0, "y": 0, "width": size["width"], "height": max(tall, size["height"])}
    return Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))


def _keep(name: str, look: str, picture: Image.Image, out: Path) -> None:
    folder = out / look
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"{name}.png")
    if look != "light" and name not in CHOICE:
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    width = SHOWN_WIDTH if name in SHOWN and look in ("light", "dark") else WIDTH if look != "phone" else 390
    width = min(width, picture.width)
    small = picture.convert("RGB").resize(
        (width, picture.height * width // picture.width), Image.Resampling.LANCZOS
    )
    small.save(KEPT / f"{name}-{look}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
