// Alerts as they come: the number in the navigation, and the inbox where it is open.
import htmx from "htmx.org";
import { all, find } from "./dom";

// Where events do not come: to who sees chosen datasets only, or through a proxy that holds them back.
const ASK_EVERY_MS = 30_000;

interface Inbox {
  newest: string | null;
  unread: number;
}

let source: EventSource | undefined;
let timer: number | undefined;
let known = "";

export function startAlerts(): void {
  if (!find("[data-alert-count]")) return;
  document.addEventListener("visibilitychange", follow);
  follow();
}

/** Only the page that is looked at holds a connection: browsers keep six to a host. */
function follow(): void {
  if (document.visibilityState === "hidden") {
    source?.close();
    source = undefined;
    window.clearTimeout(timer);
    return;
  }
  if (source) return;
  const events = new EventSource("/alerts/events");
  source = events;
  let heard = false;
  events.addEventListener("alerts", (event) => {
    heard = true;
    take(JSON.parse((event as MessageEvent<string>).data) as Inbox);
  });
  events.onerror = () => {
    if (heard && events.readyState === EventSource.CONNECTING) return;
    events.close();
    askLater();
  };
}

function take(inbox: Inbox): void {
  const now = `${inbox.newest ?? ""} ${inbox.unread}`;
  // The first event says what the page shows already, but for what came while it was loaded.
  if (now === known) return;
  known = now;
  void showCount();
}

function askLater(): void {
  window.clearTimeout(timer);
  timer = window.setTimeout(() => void showCount().then(askLater), ASK_EVERY_MS);
}

async function showCount(): Promise<void> {
  const places = all<HTMLElement>("[data-alert-count]");
  try {
    const answer = await fetch("/alerts/unread", { headers: { "HX-Request": "true" } });
    if (!answer.ok) return;
    const html = (await answer.text()).trim();
    const changed = places.some((place) => place.innerHTML.trim() !== html);
    for (const place of places) place.innerHTML = html;
    if (changed) refreshInbox();
  } catch {
    // The next event, or the next time it asks, finds it.
  }
}

function refreshInbox(): void {
  const inbox = find<HTMLElement>("[data-inbox]");
  // What somebody is about to choose is not taken away.
  if (!inbox || find(":is(button, input, select):focus", inbox)) return;
  void htmx.ajax("get", inbox.dataset.inbox ?? "", { source: inbox, target: inbox, swap: "innerHTML" });
}
