// The page of a job: lines of its log as they are written, and whether the page still hears of it.
import { all, find, need } from "./dom";
import { t } from "./words";

// Lines may come while nothing else of a job changes.
const ASK_EVERY_MS = 3000;

export function startJobLog(): void {
  const log = find<HTMLElement>("[data-log-live]");
  if (!log) return;
  const job = log.dataset.logLive;
  let asking = false;
  let again = false;
  let done = false;
  // Once more after the one under way, if asked meanwhile: the last lines come with the end of the job.
  const ask = async () => {
    again = asking;
    if (asking) return;
    asking = true;
    do {
      again = false;
      await append(log);
    } while (again);
    asking = false;
  };
  const timer = window.setInterval(() => void ask(), ASK_EVERY_MS);
  document.addEventListener("job", (event) => {
    const { id, finished } = (event as CustomEvent<{ id: string; finished: boolean }>).detail;
    if (id !== job || done) return;
    done = finished;
    void ask();
    if (!finished) return;
    window.clearInterval(timer);
    say("");
  });
  document.addEventListener("job-stream", (event) => {
    if (done) return;
    say((event as CustomEvent<{ live: boolean }>).detail.live ? t("Live") : t("Connection lost; trying again"));
  });
}

async function append(log: HTMLElement): Promise<void> {
  const last = all<HTMLElement>("[data-number]", log).at(-1)?.dataset.number ?? "0";
  try {
    const answer = await fetch(`${log.dataset.log}?after=${last}`, { headers: { "HX-Request": "true" } });
    if (!answer.ok) return;
    const lines = (await answer.text()).trim();
    if (!lines) return;
    const following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.insertAdjacentHTML("beforeend", lines);
    need<HTMLElement>("[data-log-empty]").hidden = true;
    if (following) log.scrollTop = log.scrollHeight;
  } catch {
    // The stream tells that the connection is lost; what was missed comes with the next answer.
  }
}

function say(words: string): void {
  const state = find<HTMLElement>("[data-live-state]");
  if (state) state.textContent = words;
}
