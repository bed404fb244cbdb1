"""How many clicks six tasks take, each from Home to its end: `python -m tests.console.clicks`.

A stack of its own with the demo, in Chromium, as the owner of its shop. A click is a press on a link, a button, a box
or a tab, a choice in a list, and going to a field that has not the focus already; typing and the keyboard count
nothing, so each figure is what somebody needs who uses the pointer for all. It ends with 1 where a task takes more
than it may.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

from standalone.stack import running_stack
from tests.console.browsing import CHROMIUM, FLAGS
from tests.console.furnish import ROOT
from tests.flows.pictures import jpeg

HOME = Path(os.environ.get("DATA_DIR") or ROOT / "var") / "bench" / "clicks"
JOB_MS = 300_000


class Hand:
    """Uses a page, and counts."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    def click(self, target: Locator) -> None:
        target.click()
        self.clicks += 1

    def press(self, name: str, within: Page | Locator | None = None) -> None:
        self.click((within or self.page).get_by_role("button", name=name, exact=True).first)

    def open(self, name: str) -> None:
        # In the menu a number may follow: of reviews that wait.
        self.click(self.page.get_by_role("link", name=re.compile(rf"^{name}( \d.*)?$")).first)

    def choose(self, label: str, option: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(label=option)
        self.clicks += 1

    def write(self, target: Locator, words: str) -> None:
        if not target.evaluate("one => one === document.activeElement"):
            self.clicks += 1
        target.fill(words)


def find_what_was_added(hand: Hand) -> None:
    """A picture is added to a dataset, searched for and opened."""
    page = hand.page
    hand.open("products")
    page.locator("input[type=file]").first.set_input_files(
        {"name": "clicks.jpg", "mimeType": "image/jpeg", "buffer": jpeg(4711)}
    )
    hand.clicks += 1
    expect(page.get_by_text("1 ready").first).to_be_visible(timeout=JOB_MS)
    hand.open("Search")
    words = page.locator("input[name=text]").first
    hand.write(words, "ripe yellow fruit")
    words.press("Enter")
    hand.click(page.locator("main a[href^='/assets/']").first)
    expect(page).to_have_url(re.compile("/assets/"))


def enforce_a_policy(hand: Hand) -> None:
    """A starter is taken, its first rule made stricter, counted on past audits, and put into effect."""
    page = hand.page
    hand.open("Policies")
    hand.press("New policy")
    dialog = page.get_by_role("dialog")
    hand.write(dialog.get_by_label("Name"), "Of the clicks")
    hand.choose("Starting point", "Community")
    hand.press("Create", dialog)
    hand.open("Change the rules")
    hand.write(page.locator("#r0").get_by_label("Reason"), "Clear abuse, after a warning.")
    expect(page.locator("#counted")).to_contain_text("Of the last")
    hand.press("Save as a new version")
    hand.choose("Mode", "Enforce")
    hand.press("Activate")
    hand.press("Activate version")
    expect(page.get_by_text("decides about every item from now on.")).to_be_visible()


def train_and_promote(hand: Hand) -> None:
    """A model learns from a dataset and answers searches."""
    page = hand.page
    hand.open("Models")
    hand.open("Fine-tune")
    page.get_by_label("Training pairs from").select_option(index=1)
    hand.clicks += 1
    hand.press("Start the fine-tune")
    expect(page.locator(".page-head .status-candidate")).to_be_visible(timeout=4 * JOB_MS)
    hand.press("Promote")
    hand.press("Promote", page.get_by_role("dialog"))
    expect(page.get_by_text("The promotion has started.")).to_be_visible()


def decide_and_undo(hand: Hand) -> None:
    """A review is claimed, decided with a reason, and the decision undone."""
    page = hand.page
    hand.open("Reviews")
    hand.press("Claim the next")
    hand.click(page.locator("[data-decide] label").filter(has_text="Label").first)
    hand.write(page.get_by_label("Reason", exact=True), "Only a telephone number.")
    hand.press("Decide")
    hand.click(page.locator(".alert").get_by_role("button", name="Undo"))
    page.get_by_text("Undone. The review is in the queue again").wait_for()


def generate(hand: Hand) -> None:
    """A prompt becomes a picture."""
    page = hand.page
    hand.open("Generate")
    hand.write(page.get_by_role("textbox", name="Prompt"), "a red apple on a table")
    hand.press("Generate")
    expect(page.locator(".page-head .status-succeeded")).to_be_visible(timeout=JOB_MS)


def make_a_key(hand: Hand) -> None:
    """A key for searching is made and copied."""
    page = hand.page
    hand.open("API keys")
    hand.press("New key")
    dialog = page.get_by_role("dialog")
    hand.write(dialog.get_by_label("Name"), "Of the clicks")
    expect(dialog.get_by_role("checkbox", name=re.compile("^search", re.IGNORECASE))).to_be_checked()
    hand.press("Create key", dialog)
    hand.press("Copy")


#: The task and the most clicks that it may take.
TASKS: tuple[tuple[str, Callable[[Hand], None], int], ...] = (
    ("add a picture, find it, open it", find_what_was_added, 4),
    ("a policy from a starter, changed, in effect", enforce_a_policy, 10),
    ("train a model and promote it", train_and_promote, 6),
    ("claim a review, decide, undo", decide_and_undo, 6),
    ("a picture from words", generate, 2),
    ("an API key, copied", make_a_key, 4),
)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    HOME.mkdir(parents=True, exist_ok=True)
    worse = False
    # The demo's own training would hold up the one that is counted: a workspace has one at a time.
    with running_stack(HOME, demo=True, extra_env={"DEMO_MODEL": "0"}) as stack, sync_playwright() as play:
        grocery = next(one for one in stack.demo["tenants"] if one["slug"] == "grocery")
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = chromium.new_context(base_url=stack.base_url, permissions=["clipboard-write"])
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.goto("/login")
        page.locator("[name=username]").fill(grocery["user"])
        page.locator("[name=password]").fill(grocery["password"])
        page.locator("[name=password]").press("Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        say("| task | clicks | at most |\n|---|---|---|")
        for name, do, most in TASKS:
            page.goto("/")
            hand = Hand(page)
            do(hand)
            worse |= hand.clicks > most
            say(f"| {name} | {hand.clicks} | {most} |")
        chromium.close()
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
