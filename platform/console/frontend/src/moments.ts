// Moments come in UTC; here they become the local time of the person who reads. The title keeps UTC.
import { all } from "./dom";
import { language } from "./words";

const DAY = { year: "numeric", month: "short", day: "numeric" } as const;
const MINUTE = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
const SECOND = { ...MINUTE, second: "2-digit" } as const;
const FORMATS: Record<string, Intl.DateTimeFormatOptions> = {
  day: DAY,
  minute: { ...DAY, ...MINUTE },
  second: { ...DAY, ...SECOND },
  time: MINUTE,
};
// Days before months, as in the texts of the server.
const locale = language === "en" ? "en-GB" : language;
const formatters = new Map<string, Intl.DateTimeFormat>();

/** The moment as the page's language writes it, in the zone of the browser. */
export function localMoment(value: Date, shown = "minute"): string {
  const formatter = formatters.get(shown) ?? new Intl.DateTimeFormat(locale, FORMATS[shown]);
  formatters.set(shown, formatter);
  return formatter.format(value);
}

/** All moments below a node, now and whatever is put there later. */
export function startMoments(): void {
  localise(document);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) if (node instanceof Element) localise(node);
    }
  }).observe(document.body, { childList: true, subtree: true });
}

function localise(root: ParentNode): void {
  const self = root instanceof HTMLTimeElement && root.dataset.moment ? [root] : [];
  for (const time of [...self, ...all<HTMLTimeElement>("time[data-moment]", root)]) {
    const value = new Date(time.dateTime);
    if (!Number.isNaN(value.getTime())) time.textContent = localMoment(value, time.dataset.moment);
  }
}
