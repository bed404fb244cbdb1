// The keys of who decides many reviews: on the page of one, and in the queue.
import { find } from "./dom";
import { actionOf, controlOf } from "./keys";

const ACTIONS = ["take", "allow", "label", "block", "reason", "look", "next", "skip", "undo"];

export function startReview(): void {
  // Undo stands in the message about what was decided, wherever that is shown.
  if (!find("[data-decide], [data-shortcut=take], [data-shortcut=undo]")) return;
  document.addEventListener("keydown", (event) => {
    const form = find<HTMLFormElement>("[data-decide]");
    if (form && event.key === "Enter" && (event.ctrlKey || event.metaKey) && form.contains(event.target as Node)) {
      event.preventDefault();
      form.requestSubmit(find<HTMLButtonElement>("[name=next]", form));
      return;
    }
    const action = actionOf(event, ACTIONS);
    if (action && act(action, form)) event.preventDefault();
  });
}

function act(action: string, form: HTMLFormElement | null): boolean {
  const reason = form && find<HTMLElement>("[name=reason]", form);
  if (action === "reason") reason?.focus();
  else if (action === "look") find<HTMLElement>(".review-item .veil, .review-item audio")?.focus();
  else {
    const control = controlOf(action);
    if (!control) return false;
    control.click();
    if (control.matches("label")) reason?.focus();
  }
  return true;
}
