// On a phone the navigation is wider than the screen.
import { find } from "./dom";

/** The page that is open stands in the middle. Not scrollIntoView: that moves where the tab key begins as well. */
export function showCurrentPage(): void {
  const bar = find<HTMLElement>(".nav-main");
  const current = bar && find<HTMLElement>("[aria-current]", bar);
  if (current) bar.scrollLeft = current.offsetLeft - (bar.clientWidth - current.offsetWidth) / 2;
}
