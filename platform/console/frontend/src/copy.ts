// Buttons that copy the text of another element.
import { find } from "./dom";
import { notice } from "./notices";

export function startCopyButtons(): void {
  document.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-copy]");
    if (button) void copy(button);
  });
}

async function copy(button: HTMLElement): Promise<void> {
  const source = find<HTMLElement>(`#${button.dataset.copy}`);
  if (!source) return;
  try {
    await navigator.clipboard.writeText(source.textContent?.trim() ?? "");
    done(button);
  } catch {
    // No clipboard without HTTPS: select it, so that the keyboard can copy it.
    window.getSelection()?.selectAllChildren(source);
    notice("Press Ctrl+C (⌘C) to copy the selected text.");
  }
}

function done(button: HTMLElement): void {
  const label = find<HTMLElement>("[data-label]", button) ?? button;
  const before = label.textContent;
  label.textContent = "Copied";
  setTimeout(() => (label.textContent = before), 2000);
}
