// Ctrl+K goes anywhere by name, "?" tells the keys. Without a script the same is a page.
import htmx from "htmx.org";
import { all, find, need } from "./dom";
import { actionOf } from "./keys";

export function startGo(): void {
  const dialog = find<HTMLDialogElement>("#go");
  if (!dialog) return;
  const input = need<HTMLInputElement>("[name=q]", dialog);
  const open = () => {
    if (dialog.open) return;
    for (const other of all<HTMLDialogElement>("dialog[open]")) other.close();
    input.value = "";
    dialog.showModal();
    htmx.trigger(input, "fill");
  };
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      open();
    } else if (actionOf(event, ["help"]) && !find("dialog[open]")) {
      event.preventDefault();
      need<HTMLDialogElement>("#shortcuts").showModal();
    }
  });
  find("[data-go]")?.addEventListener("click", (event) => {
    event.preventDefault();
    open();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    const stops = [input, ...all<HTMLElement>("#places a", dialog)];
    const at = stops.indexOf(document.activeElement as HTMLElement);
    stops[(at + (event.key === "ArrowDown" ? 1 : stops.length - 1)) % stops.length]?.focus();
  });
  // Enter in the box goes to the first place, as soon as what was typed is answered.
  let answered: string | null = null;
  let going = false;
  const go = () => {
    going = answered !== input.value;
    if (!going) find<HTMLAnchorElement>("#places a", dialog)?.click();
  };
  need<HTMLFormElement>("form", dialog).addEventListener("submit", (event) => {
    event.preventDefault();
    go();
  });
  input.addEventListener("input", () => {
    going = false;
  });
  dialog.addEventListener("htmx:afterSwap", (event) => {
    const asked = (event as CustomEvent<{ pathInfo: { finalRequestPath: string } }>).detail.pathInfo.finalRequestPath;
    answered = new URL(asked, location.href).searchParams.get("q");
    if (going) go();
  });
}
