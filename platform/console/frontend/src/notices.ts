// Short messages at the corner of the page, and what htmx does when an answer does not come.
import { fromTemplate, need } from "./dom";

const SHOWN_MS = 8000;

export function notice(text: string): void {
  const item = fromTemplate<HTMLElement>("notice");
  need("[data-text]", item).textContent = text;
  need("[data-close]", item).addEventListener("click", () => item.remove());
  need("#notices").append(item);
  setTimeout(() => item.remove(), SHOWN_MS);
}

export function startNotices(): void {
  document.body.addEventListener("htmx:sendError", () => {
    notice("The server cannot be reached. Check the connection and try again.");
  });
  document.body.addEventListener("htmx:timeout", () => notice("The server took too long. Try again."));
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = (event as CustomEvent<{ xhr: XMLHttpRequest; shouldSwap: boolean }>).detail;
    // The session has ended meanwhile: go to the sign-in page as a whole, not inside a part of this one.
    if (xhr.status === 401) window.location.reload();
  });
  document.body.addEventListener("htmx:responseError", (event) => {
    const { xhr } = (event as CustomEvent<{ xhr: XMLHttpRequest }>).detail;
    if (xhr.status < 500) return;
    const id = xhr.getResponseHeader("X-Request-Id");
    notice(`Something went wrong on our side${id ? ` (request ${id})` : ""}. Try again in a moment.`);
  });
}
