// The menu on phones opens without a script; with one it closes as menus do.
import { find } from "./dom";

export function startMenu(): void {
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
