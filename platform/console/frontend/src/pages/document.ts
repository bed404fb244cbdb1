// A document on an asset's page: arrows turn its pages, and the passage that was found comes into sight.
import { find } from "../dom";

const KEYS: Record<string, string> = { ArrowLeft: "[data-previous]", ArrowRight: "[data-next]" };

function turn(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !KEYS[event.key]) return;
  const at = event.target instanceof HTMLElement ? event.target : null;
  // Keys move within fields, charts and words that scroll.
  if (at?.closest("input, textarea, select, [contenteditable], [role=slider], dialog[open], .table-scroll")) return;
  const link = find<HTMLElement>(`#document ${KEYS[event.key]}`);
  if (!link) return;
  event.preventDefault();
  link.click();
}

function reveal(): void {
  const words = find<HTMLElement>("#document .page-words");
  const marked = words && find<HTMLElement>("mark, .in-passage", words);
  if (words && marked) words.scrollTop = Math.max(0, marked.offsetTop - words.offsetTop - 24);
}

document.addEventListener("keydown", turn);
document.addEventListener("htmx:afterSwap", reveal);
reveal();
