// A moment that was found plays at once, over the results. Without this its link opens the asset at that second.
import { find, need } from "./dom";

export function startMomentPlayer(): void {
  const dialog = find<HTMLDialogElement>("#moment-player");
  if (!dialog) return;
  document.addEventListener("click", (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("[data-play]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    show(dialog, link);
  });
  // A player that nobody sees must not go on sounding, nor loading.
  dialog.addEventListener("close", () => need("[data-media]", dialog).replaceChildren());
}

function show(dialog: HTMLDialogElement, link: HTMLAnchorElement): void {
  const { play: source = "", at = "0", kind, title = "" } = link.dataset;
  need("[data-title]", dialog).textContent = title;
  need<HTMLAnchorElement>("[data-asset]", dialog).href = link.href;
  const media = document.createElement(kind === "video" ? "video" : "audio");
  media.controls = true;
  media.setAttribute("aria-label", title);
  const unplayable = need<HTMLElement>("[data-unplayable]", dialog);
  unplayable.hidden = true;
  media.addEventListener("error", () => (unplayable.hidden = false));
  media.addEventListener("loadedmetadata", () => (media.currentTime = Number(at)), { once: true });
  // Where the browser does not let it start by itself, there is a button.
  media.addEventListener("seeked", () => void media.play().catch(() => undefined), { once: true });
  media.src = source;
  need("[data-media]", dialog).replaceChildren(media);
  dialog.showModal();
  media.focus();
}
