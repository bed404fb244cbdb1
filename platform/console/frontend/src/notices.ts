// Short messages at the corner of the page, and what htmx does when an answer does not come.
import { all, find, fromTemplate, need } from "./dom";

const SHOWN_MS = 8000;

export function notice(text: string): void {
  const item = fromTemplate<HTMLElement>("notice");
  need("[data-text]", item).textContent = text;
  need("[data-close]", item).addEventListener("click", () => item.remove());
  need("#notices").append(item);
  setTimeout(() => item.remove(), SHOWN_MS);
}

/** Whether a failure came from us with words of its own, where they are to be shown: a server that is away for a moment. */
function saysItself(xhr: XMLHttpRequest): boolean {
  return xhr.status === 503 && xhr.getResponseHeader("HX-Retarget") !== null;
}

/** Messages that the server has put on the page: each speaks of what the page showed when it was loaded. */
const FLASH = "[data-flash]";

/** Take them away once what they speak of has changed, but not before there was time to read them. */
export function forgetFlashes(): void {
  const unread = Math.max(0, SHOWN_MS - performance.now());
  for (const flash of all(FLASH)) setTimeout(() => flash.remove(), unread);
}

function startFlashes(): void {
  for (const flash of all<HTMLElement>(FLASH)) {
    const close = find<HTMLButtonElement>("[data-close]", flash);
    if (!close) continue;
    close.hidden = false;
    close.addEventListener("click", () => {
      flash.remove();
      find<HTMLElement>("main")?.focus();
    });
  }
  // A page that the browser brings back from its memory says again what was said before.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) for (const flash of all(FLASH)) flash.remove();
  });
}

export function startNotices(): void {
  startFlashes();
  document.body.addEventListener("htmx:sendError", () => {
    notice("The server cannot be reached. Check the connection and try again.");
  });
  document.body.addEventListener("htmx:timeout", () => notice("The server took too long. Try again."));
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const detail = (event as CustomEvent<{ xhr: XMLHttpRequest; shouldSwap: boolean }>).detail;
    const { xhr } = detail;
    if (saysItself(xhr)) detail.shouldSwap = true;
    // The session has ended meanwhile: go to the sign-in page as a whole, not inside a part of this one.
    if (xhr.status === 401) window.location.reload();
  });
  document.body.addEventListener("htmx:responseError", (event) => {
    const { xhr } = (event as CustomEvent<{ xhr: XMLHttpRequest }>).detail;
    if (xhr.status < 500 || saysItself(xhr)) return;
    const id = xhr.getResponseHeader("X-Request-Id");
    notice(`Something went wrong on our side${id ? ` (request ${id})` : ""}. Try again in a moment.`);
  });
}
