// Parts of a page that show a job: fetched again whenever the job changes.
import htmx from "htmx.org";
import { all, find } from "./dom";
import { forgetFlashes } from "./notices";
import { finished, type Job, watch } from "./watch";

const watched = new WeakSet<Element>();

export function startJobs(root: ParentNode): void {
  const self = root instanceof Element && root.matches("[data-job]") ? [root as HTMLElement] : [];
  for (const panel of [...self, ...all<HTMLElement>("[data-job]", root)]) {
    if (watched.has(panel)) continue;
    watched.add(panel);
    let before: Job["state"] | undefined;
    watch(panel.dataset.job ?? "", (job) => {
      tell(job);
      // "It is queued again" is over once it is not queued any more.
      if (finished(job) || (before && before !== job.state)) forgetFlashes();
      before = job.state;
      if (!moved(panel, job)) refresh(panel);
    });
  }
}

/** Other parts of the page follow the same job without a stream of their own. */
function tell(job: Job): void {
  document.dispatchEvent(new CustomEvent("job", { detail: { id: job.id, finished: finished(job) } }));
}

/** Where a panel has a bar for it, a step moves that alone: buttons stay under the pointer. */
function moved(panel: HTMLElement, job: Job): boolean {
  const bar = find<HTMLProgressElement>("progress[data-steps]", panel);
  const same = panel.dataset.state === job.state;
  panel.dataset.state = job.state;
  if (!bar || !same || finished(job)) return false;
  bar.max = job.progress.total || 1;
  bar.value = job.progress.done;
  return true;
}

// A control that is held down would be taken away under the pointer.
const AFTER_A_PRESS_MS = 300;

function refresh(panel: HTMLElement): void {
  if (!panel.isConnected || !panel.dataset.panel) return;
  if (find(":is(button, input, select, summary):active", panel)) {
    window.setTimeout(() => refresh(panel), AFTER_A_PRESS_MS);
    return;
  }
  // What the address asks of the page, it asks of its part.
  const asked = panel.dataset.panel === window.location.pathname ? window.location.search : "";
  const open = all<HTMLDetailsElement>("details[open][id]", panel).map((details) => details.id);
  // The panel keeps its identity; only its content is fetched, so that it is watched once.
  void htmx
    .ajax("get", panel.dataset.panel + asked, { source: panel, target: panel, swap: "innerHTML" })
    .then(() => reopen(panel, open));
}

/** What a person opened stays open. */
function reopen(panel: HTMLElement, ids: string[]): void {
  for (const details of all<HTMLDetailsElement>("details[id]", panel)) {
    if (ids.includes(details.id)) details.open = true;
  }
}
