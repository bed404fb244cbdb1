// The menu on phones opens without a script; with one it closes as menus do.
import { find } from "./dom";

export function startMenu(): void {
  showCurrentPage();
  const menu = find<HTMLDetailsElement>(".nav-drawer");
  if (!menu) return;
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target as Node)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    find<HTMLElement>("summary", menu)?.focus();
  });
}

/** On a low screen the navigation scrolls: the open page is in view. Not scrollIntoView: that moves the tab key, too. */
function showCurrentPage(): void {
  const bar = find<HTMLElement>(".nav-main");
  const current = bar && find<HTMLElement>("[aria-current]", bar);
  if (!bar || !current) return;
  const below = current.getBoundingClientRect().bottom - bar.getBoundingClientRect().bottom;
  if (below > 0) bar.scrollTop += below;
}
