// Following jobs: a few through server-sent events, the rest (and all, where events do not come) by asking.
import { notice } from "./notices";
import { t } from "./words";

export interface Job {
  id: string;
  state: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  progress: { done: number; total: number; failed: number };
  error?: { type: string; detail: string };
}

type Listener = (job: Job) => void;

const FINISHED = ["succeeded", "failed", "cancelled"];
// Browsers keep six connections to a host; uploads and pages need some of them.
const MAX_STREAMS = 2;
const ASK_EVERY_MS = 1500;
// An end of a stream that is followed by a new one is no loss.
const LOST_AFTER_MS = 5000;
const ASK_AT_ONCE = 50;

const asked = new Map<string, Listener>();
let streams = 0;
let streamsWork = typeof EventSource !== "undefined";
let timer: number | undefined;

export function finished(job: Job): boolean {
  return FINISHED.includes(job.state);
}

/** Call `listener` with every state of the job that becomes known, until it has finished. */
export function watch(id: string, listener: Listener): void {
  if (streamsWork && streams < MAX_STREAMS) stream(id, listener);
  else ask(id, listener);
}

function stream(id: string, listener: Listener): void {
  const source = new EventSource(`/jobs/${encodeURIComponent(id)}/events`);
  let heard = false;
  streams += 1;
  const close = () => {
    source.close();
    streams -= 1;
  };
  const take = (event: MessageEvent<string>) => {
    heard = true;
    const job = JSON.parse(event.data) as Job;
    if (finished(job)) close();
    listener(job);
  };
  source.addEventListener("message", take);
  source.addEventListener("job", take as EventListener);
  let lost: number | undefined;
  source.onopen = () => {
    window.clearTimeout(lost);
    tellLive(true);
  };
  source.onerror = () => {
    // After a lost connection, or when the server ends a stream, the browser connects again by itself and says what it
    // has heard last.
    if (heard && source.readyState === EventSource.CONNECTING) {
      window.clearTimeout(lost);
      lost = window.setTimeout(() => tellLive(false), LOST_AFTER_MS);
      return;
    }
    window.clearTimeout(lost);
    close();
    // Never heard anything: this way does not work here (a proxy, another server). Else only this stream ended.
    if (!heard) streamsWork = false;
    ask(id, listener);
  };
}

/** For what shows whether the page hears of changes at once. */
function tellLive(live: boolean): void {
  document.dispatchEvent(new CustomEvent("job-stream", { detail: { live } }));
}

function ask(id: string, listener: Listener): void {
  asked.set(id, listener);
  timer ??= window.setTimeout(askAll, 300);
}

async function askAll(): Promise<void> {
  const ids = [...asked.keys()].slice(0, ASK_AT_ONCE);
  try {
    const answer = await fetch(`/jobs/states?ids=${ids.join(",")}`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) return window.location.reload();
    tellLive(answer.ok);
    if (answer.ok) tell(ids, ((await answer.json()) as { jobs: Job[] }).jobs);
  } catch {
    notice(t("The server cannot be reached. Trying again."));
    tellLive(false);
  }
  timer = asked.size ? window.setTimeout(askAll, ASK_EVERY_MS) : undefined;
}

function tell(ids: string[], jobs: Job[]): void {
  const known = new Map(jobs.map((job) => [job.id, job]));
  for (const id of ids) {
    const listener = asked.get(id);
    const job = known.get(id);
    asked.delete(id);
    if (!job || !listener) continue; // gone: nobody has to wait for it
    if (!finished(job)) asked.set(id, listener); // to the end of the line
    listener(job);
  }
}
