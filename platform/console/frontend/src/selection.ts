// Ticked rows of a table: how many there are, all at once, and buttons that need some. Forms that send themselves.
import { all, find } from "./dom";
import { nt } from "./words";

const BOXES = "#bulk tbody [type=checkbox]";

export function startSelection(): void {
  for (const form of all<HTMLFormElement>("form[data-sends-itself]")) {
    form.addEventListener("change", () => form.requestSubmit());
  }
  const form = find<HTMLFormElement>("#bulk");
  if (!form) return;
  form.addEventListener("change", (event) => {
    const box = event.target as HTMLInputElement;
    if (box.matches("[data-tick-all]")) for (const one of boxes()) one.checked = box.checked;
    show(form);
  });
  // One form has several dialogs: Enter sends the one that it is pressed in, not the first.
  form.addEventListener("keydown", (event) => {
    const field = event.target as HTMLElement;
    const button = event.key === "Enter" && field.matches("dialog input") && find<HTMLButtonElement>("[type=submit]", field.closest("dialog")!);
    if (!button) return;
    event.preventDefault();
    button.click();
  });
  // More rows may have been loaded.
  document.body.addEventListener("htmx:afterSwap", () => show(form));
  show(form);
}

function boxes(): HTMLInputElement[] {
  return all<HTMLInputElement>(BOXES);
}

function show(form: HTMLFormElement): void {
  const [there, ticked] = [boxes().length, boxes().filter((box) => box.checked).length];
  const words = find<HTMLElement>("[data-ticked]", form);
  if (words) words.textContent = ticked ? nt("{count} chosen", "{count} chosen", ticked) : "";
  for (const button of all<HTMLButtonElement>("[data-needs-ticks]", form)) button.disabled = !ticked;
  const every = find<HTMLInputElement>("[data-tick-all]", form);
  if (!every) return;
  every.checked = ticked > 0 && ticked === there;
  every.indeterminate = ticked > 0 && ticked < there;
}
