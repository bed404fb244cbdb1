// The single keys that the member chose, as the page of every workspace carries them; none where they are turned off.
import { all, find } from "./dom";

const TYPED_IN = "textarea, select, input:not([type=radio], [type=checkbox]), [contenteditable], dialog[open] *, audio, video";

let keys: Record<string, string> | undefined;

function chosen(): Record<string, string> {
  keys ??= JSON.parse(find<HTMLElement>("#shortcuts")?.dataset.keys ?? "{}") as Record<string, string>;
  return keys;
}

/** Which of these actions the key is for; null in a box that takes text, or with Ctrl, Alt or Meta. */
export function actionOf(event: KeyboardEvent, actions: string[]): string | null {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return null;
  // A box in a dialog that just closed has the focus until the next frame is drawn; nobody types there.
  if (event.target instanceof Element && event.target.matches(TYPED_IN) && event.target.checkVisibility()) return null;
  const named = event.key.toLowerCase();
  const found = actions.find((one) => chosen()[one] === named);
  // Plus without Shift, unless that key was given away.
  if (!found && named === "=") return actions.find((one) => chosen()[one] === "+") ?? null;
  return found ?? null;
}

/** What does the action, within an element. */
export function controlOf(action: string, root: ParentNode = document): HTMLElement | undefined {
  return all<HTMLElement>(`[data-shortcut="${action}"]`, root).find((one) => !one.matches(":disabled"));
}

/** Fields for one key take the newest that is typed. */
export function startKeyFields(): void {
  for (const field of all<HTMLInputElement>("[data-select]")) {
    field.addEventListener("focus", () => field.select());
    field.addEventListener("click", () => field.select());
  }
}
