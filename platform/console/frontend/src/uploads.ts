// Uploading to a dataset: a row with a progress bar for each file, three at a time, then its job until it is ready.
import { csrfToken, find, fromTemplate, need, onDrop, prependFrom } from "./dom";
import { finished, watch, type Job } from "./watch";

const AT_ONCE = 3;

interface Accepted {
  asset: { id: string; tile: string };
  job: Job | null;
}

interface Problem {
  detail?: string;
  title?: string;
}

/** One thing to send: a file or a pasted text, and its line in the list. */
interface Item {
  body: FormData;
  row: Row;
}

class Row {
  readonly element = fromTemplate<HTMLElement>("upload-row");
  private readonly bar = need<HTMLProgressElement>("progress", this.element);
  private readonly words = need<HTMLElement>("[data-words]", this.element);

  constructor(name: string) {
    need("[data-name]", this.element).textContent = name;
  }

  sent(share: number): void {
    this.bar.value = share;
    this.say("sending", share < 1 ? `Sending ${Math.round(share * 100)} %` : "Sent, being checked");
  }

  /** `state` is one of waiting, sending, working, done, failed: the stylesheet knows them. */
  say(state: string, words: string): void {
    this.element.dataset.state = state;
    this.words.textContent = words;
    if (state === "working") this.bar.removeAttribute("value");
    if (state === "done" || state === "failed") this.bar.value = 1;
  }
}

class Uploader {
  private readonly waiting: Item[] = [];
  private active = 0;
  private readonly list = need<HTMLElement>("#uploads");

  constructor(private readonly form: HTMLFormElement) {}

  listen(): void {
    const picker = need<HTMLInputElement>("[type=file]", this.form);
    need("[data-pick]", this.form).addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      this.add([...(picker.files ?? [])]);
      picker.value = "";
    });
    onDrop(document.body, (files) => this.add(files));
    document.addEventListener("paste", (event) => this.pasted(event));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.addText();
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.active || this.waiting.length) event.preventDefault();
    });
  }

  private pasted(event: ClipboardEvent): void {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return; // text goes where the cursor is
    event.preventDefault();
    this.add(files);
  }

  private add(files: File[]): void {
    const items = files.map((file) => {
      const body = this.details();
      body.set("file", file);
      return { body, row: new Row(file.name || "pasted picture") };
    });
    this.queue(items);
  }

  private addText(): void {
    const box = need<HTMLTextAreaElement>("[name=text]", this.form);
    const words = box.value.trim();
    if (!words) return box.focus();
    const body = this.details();
    body.delete("caption");
    body.set("text", words);
    this.queue([{ body, row: new Row(`“${words.slice(0, 60)}${words.length > 60 ? "…" : ""}”`) }]);
    box.value = "";
  }

  /** Caption and metadata as they stand now: they apply to what is added from here on. */
  private details(): FormData {
    const body = new FormData();
    for (const name of ["caption", "metadata"]) {
      const value = need<HTMLInputElement>(`[name=${name}]`, this.form).value.trim();
      if (value) body.set(name, value);
    }
    return body;
  }

  /** The newest files stand first, in the order in which they are sent. */
  private queue(items: Item[]): void {
    for (const item of items) item.row.say("waiting", "Waiting");
    this.list.prepend(...items.map((item) => item.row.element));
    this.list.hidden = false;
    this.list.scrollTop = 0;
    this.waiting.push(...items);
    this.next();
  }

  private next(): void {
    while (this.active < AT_ONCE && this.waiting.length) this.send(this.waiting.shift() as Item);
  }

  private send(item: Item): void {
    const request = new XMLHttpRequest();
    this.active += 1;
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) item.row.sent(event.loaded / event.total);
    };
    request.onload = () => this.answered(item, request);
    request.onerror = () => item.row.say("failed", "The connection broke. Add the file again.");
    request.onloadend = () => {
      this.active -= 1;
      this.next();
    };
    request.open("POST", this.form.action);
    request.setRequestHeader("X-CSRFToken", csrfToken());
    request.setRequestHeader("Accept", "application/json");
    request.send(item.body);
    item.row.sent(0);
  }

  private answered({ row }: Item, request: XMLHttpRequest): void {
    if (request.status >= 300) return row.say("failed", explained(request));
    const accepted = JSON.parse(request.responseText) as Accepted;
    countOne();
    if (!accepted.job) return this.ready(row, accepted);
    row.say("working", "Waiting for a worker");
    watch(accepted.job.id, (job) => this.followed(row, accepted, job));
  }

  private followed(row: Row, accepted: Accepted, job: Job): void {
    if (job.state === "running") row.say("working", "Being indexed");
    if (!finished(job)) return;
    if (job.state === "succeeded") return this.ready(row, accepted);
    row.say("failed", capitalised(job.error?.detail ?? `The work was ${job.state}.`));
  }

  private ready(row: Row, accepted: Accepted): void {
    row.say("done", "Ready");
    find("#no-assets")?.remove();
    find(`#asset-${accepted.asset.id}`)?.remove();
    void prependFrom(accepted.asset.tile, need("#tiles"));
  }
}

/** One asset more in the dataset than when the page was made. */
function countOne(): void {
  const shown = find<HTMLElement>("[data-asset-count]");
  if (!shown) return;
  const count = Number(shown.dataset.assetCount) + 1;
  shown.dataset.assetCount = String(count);
  shown.textContent = count.toLocaleString("en");
}

function capitalised(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function explained(request: XMLHttpRequest): string {
  if (request.status === 401) return "You are signed out. Reload the page and sign in.";
  try {
    const problem = JSON.parse(request.responseText) as Problem;
    return problem.detail ?? problem.title ?? "This was not accepted.";
  } catch {
    return request.status === 413 ? "This file is too large." : `This was not accepted (${request.status}).`;
  }
}

export function startUploads(): void {
  const form = find<HTMLFormElement>("#upload-form");
  if (form) new Uploader(form).listen();
}
