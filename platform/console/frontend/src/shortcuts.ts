// The keyboard on the page of search: one key goes to the words, arrows go from result to result, others label one.
import { all, find } from "./dom";
import { actionOf, controlOf } from "./keys";

const TILES = "#found .tile > a, #found .hit .named";

export function startShortcuts(form: HTMLFormElement): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target as HTMLElement;
    if (actionOf(event, ["words"])) {
      event.preventDefault();
      find<HTMLInputElement>("[name=text]", form)?.focus();
    } else if (move(event.key, at) || press(event, at)) event.preventDefault();
  });
}

/** Whether the key went to another result. From the box of words, down goes to the first one. */
function move(key: string, from: HTMLElement): boolean {
  const tiles = all<HTMLElement>(TILES);
  const at = tiles.indexOf(from);
  if (at < 0) return key === "ArrowDown" && from.matches("#search-form [name=text]") && focus(tiles[0]);
  if (key === "ArrowRight") return focus(tiles[at + 1]);
  if (key === "ArrowLeft") return focus(tiles[at - 1]);
  if (key === "Home") return focus(tiles[0]);
  if (key === "End") return focus(tiles[tiles.length - 1]);
  if (key === "ArrowDown") return focus(tiles[at + columns(tiles)] ?? tiles[tiles.length - 1]);
  if (key === "ArrowUp") return focus(tiles[at - columns(tiles)] ?? find<HTMLElement>("#search-form [name=text]"));
  return false;
}

/** What is said of the result that has the focus, which keeps it; its caption takes it. */
function press(event: KeyboardEvent, from: HTMLElement): boolean {
  if (!from.matches(TILES)) return false;
  const action = actionOf(event, ["relevant", "irrelevant", "caption"]);
  if (!action) return false;
  const tile = from.closest(".tile") ?? from;
  const control = controlOf(action, tile);
  control?.click();
  if (action === "caption") find<HTMLElement>("details[open] textarea", tile)?.focus();
  return Boolean(control);
}

/** How many results stand in the first row. */
function columns(tiles: HTMLElement[]): number {
  const top = tiles[0]?.getBoundingClientRect().top;
  return Math.max(1, tiles.filter((tile) => tile.getBoundingClientRect().top === top).length);
}

function focus(element: HTMLElement | null | undefined): boolean {
  element?.focus();
  return Boolean(element);
}
