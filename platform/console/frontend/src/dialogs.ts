// <dialog> elements: opened by a button that names them, closed by their own buttons; typed confirmations.
import { all, find } from "./dom";

document.addEventListener("click", (event) => {
  const target = event.target as Element;
  const opener = target.closest<HTMLElement>("[data-open]");
  if (opener) find<HTMLDialogElement>(`#${opener.dataset.open}`)?.showModal();
  const closer = target.closest("[data-close-dialog]");
  if (closer) closer.closest("dialog")?.close();
  if (target instanceof HTMLDialogElement) target.close(); // a click on the backdrop
});

export function startConfirmations(root: ParentNode): void {
  // A dialog whose form came back with errors is shown again.
  for (const dialog of all<HTMLDialogElement>("dialog[data-open-now]", root)) {
    if (!dialog.open) dialog.showModal();
  }
  for (const input of all<HTMLInputElement>("input[data-must-equal]", root)) guard(input);
}

/** A form that only waits for being sent once more: what was interrupted for a proof of who sits here. */
export function sendNow(): void {
  find<HTMLFormElement>("form[data-send-now]")?.requestSubmit();
}

/** The form's button stays off until the name was typed. */
function guard(input: HTMLInputElement): void {
  const button = input.form?.querySelector<HTMLButtonElement>("[type=submit]");
  if (!button) return;
  const check = () => {
    button.disabled = input.value.trim() !== input.dataset.mustEqual;
  };
  input.addEventListener("input", check);
  check();
}
