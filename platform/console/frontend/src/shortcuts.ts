// The keyboard on the page of search: "/" goes to the words, arrows go from result to result.
import { all, find } from "./dom";

const TILES = "#found .tile > a";
const TYPED_IN = "input, textarea, select, [contenteditable], dialog[open] *, audio, video";

export function startShortcuts(form: HTMLFormElement): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target as HTMLElement;
    if (event.key === "/" && !at.matches(TYPED_IN)) {
      event.preventDefault();
      find<HTMLInputElement>("[name=text]", form)?.focus();
    } else if (move(event.key, at)) event.preventDefault();
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

/** How many results stand in the first row. */
function columns(tiles: HTMLElement[]): number {
  const top = tiles[0]?.getBoundingClientRect().top;
  return Math.max(1, tiles.filter((tile) => tile.getBoundingClientRect().top === top).length);
}

function focus(element: HTMLElement | null | undefined): boolean {
  element?.focus();
  return Boolean(element);
}
