// Single keys on the page of a review, for whoever decides many. They can be turned off, and stay so.
import { find, need } from "./dom";

const KEPT = "review-keys";

export function startReview(): void {
  const legend = find<HTMLElement>("[data-review-keys]");
  if (!legend) return;
  const on = need<HTMLInputElement>("input", legend);
  legend.hidden = false;
  on.checked = localStorage.getItem(KEPT) !== "off";
  on.addEventListener("change", () => localStorage.setItem(KEPT, on.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    const form = need<HTMLFormElement>("[data-decide]");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && form.contains(event.target as Node)) {
      event.preventDefault();
      form.requestSubmit(need<HTMLButtonElement>("[name=next]", form));
      return;
    }
    if (!on.checked || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (act(event.key.toLowerCase(), form)) event.preventDefault();
  });
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("textarea, select, input:not([type=radio], [type=checkbox])");
}

function act(key: string, form: HTMLFormElement): boolean {
  const decision = { a: "allow", l: "label", b: "block" }[key];
  if (decision) need<HTMLInputElement>(`[name=decision][value=${decision}]`, form).click();
  else if (key === "r") need<HTMLElement>("[name=reason]", form).focus();
  else if (key === "v") find<HTMLElement>(".review-item .veil, .review-item audio")?.focus();
  else return false;
  if (decision) need<HTMLElement>("[name=reason]", form).focus();
  return true;
}
