// Uploading to a dataset: a row with a progress bar for each file, three at a time, then its job until it is ready.
import { all, csrfToken, find, need, onDrop, prependFrom } from "./dom";
import { isImport, sendImport, tellBrokenOff } from "./imports";
import { notice } from "./notices";
import { place, Row, showRows } from "./rows";
import { deliver, Refused } from "./sending";
import { finished, watch, type Job } from "./watch";
import { nt, t } from "./words";

const AT_ONCE = 3;
// More are an import: one archive is sent and followed more easily than so many files.
const MANY = 1000;
// Ids that fit into an address.
const MOST_FOLLOWED = 60;

interface Accepted {
  asset: { id: string; tile: string };
  job: Job | null;
  /** The asset of the same content that was there before; `skipped` where nothing was added beside it. */
  earlier: { title: string; url: string } | null;
  skipped: boolean;
}

/** One thing to send: a file or a pasted text, and its line in the list. */
interface Item {
  fields: FormData;
  file: File | null;
  row: Row;
  /** What would be done to it anew, where it failed and the same bytes may be taken. */
  retry?: () => void;
}

function megabytes(bytes: number): string {
  return (bytes / 1048576).toFixed(bytes < 10485760 ? 1 : 0);
}

class Uploader {
  private readonly waiting: Item[] = [];
  private active = 0;
  private readonly items: Item[] = [];
  /** Of files that were chosen since the page was loaded. */
  private readonly sent = { assets: 0, bytes: 0 };
  private readonly list = need<HTMLElement>("#uploads");
  private readonly results = need<HTMLElement>("#upload-results");
  private readonly retryAll = need<HTMLButtonElement>("[data-retry-all]", this.results);

  constructor(private readonly form: HTMLFormElement) {}

  listen(): void {
    this.listenToPicker("[type=file]:not([webkitdirectory])", "[data-pick]");
    this.listenToPicker("[webkitdirectory]", "[data-pick-folder]");
    onDrop(document.body, (files) => this.add(files));
    document.addEventListener("paste", (event) => this.pasted(event));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.addText();
    });
    this.retryAll.addEventListener("click", () => {
      for (const item of this.items) item.retry?.();
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.active || this.waiting.length) event.preventDefault();
    });
    void tellBrokenOff([this.form.action, this.importUrl]);
  }

  private get importUrl(): string {
    return new URL(this.form.dataset.import ?? "", window.location.href).href;
  }

  private listenToPicker(input: string, button: string): void {
    const picker = need<HTMLInputElement>(input, this.form);
    need(button, this.form).addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      this.add([...(picker.files ?? [])].filter((file) => !file.name.startsWith(".")));
      picker.value = "";
    });
  }

  private pasted(event: ClipboardEvent): void {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return; // text goes where the cursor is
    event.preventDefault();
    this.add(files);
  }

  private add(files: File[]): void {
    if (files.length > MANY) {
      return notice(t("These are {n} files. Put them into a ZIP and import that.", { n: files.length }));
    }
    const refused = this.withoutRoom(files);
    if (refused) return notice(refused);
    const alone = files.length === 1 && !this.active && !this.waiting.length;
    const items = files.map((file) => ({
      fields: this.details(),
      file,
      row: new Row(file.webkitRelativePath || file.name || t("pasted picture")),
    }));
    if (alone && items[0] && isImport(items[0].file)) return void this.open(items[0].file, items[0].row);
    this.queue(items);
  }

  /**
   * What is said of files for which the plan has no room; empty where it has, as far as the page knows: the server
   * refuses what came in meanwhile, and what imports and skipped copies take is told by it alone.
   */
  private withoutRoom(files: File[]): string {
    const single = files.filter((file) => !isImport(file));
    const bytes = single.reduce((sum, file) => sum + file.size, 0);
    const { assetsLeft, bytesLeft } = this.form.dataset;
    const advice = t("Remove some, delete what is no longer needed and reload this page, or ask for a larger plan under Usage.");
    if (assetsLeft !== undefined && single.length > Number(assetsLeft) - this.sent.assets) {
      const left = Math.max(0, Number(assetsLeft) - this.sent.assets);
      return `${t("These are {n} files, and your plan has room for {left}.", { n: single.length, left })} ${advice}`;
    }
    if (bytesLeft !== undefined && bytes > Number(bytesLeft) - this.sent.bytes) {
      const left = megabytes(Math.max(0, Number(bytesLeft) - this.sent.bytes));
      return `${t("These files take {n} MB, and your plan has room for {left} MB.", { n: megabytes(bytes), left })} ${advice}`;
    }
    this.sent.assets += single.length;
    this.sent.bytes += bytes;
    return "";
  }

  /** A single table or archive: the next thing that one wants to see is what it holds. */
  private async open(file: File, row: Row): Promise<void> {
    this.results.hidden = false;
    showRows(this.list, [row]);
    this.active += 1;
    const page = await sendImport(this.importUrl, file, row);
    this.active -= 1;
    if (page) window.location.assign(page);
  }

  private addText(): void {
    const box = need<HTMLTextAreaElement>("[name=text]", this.form);
    const words = box.value.trim();
    if (!words) return box.focus();
    const fields = this.details();
    fields.delete("caption");
    fields.set("text", words);
    const name = `“${words.slice(0, 60)}${words.length > 60 ? "…" : ""}”`;
    this.queue([{ fields, file: null, row: new Row(name) }]);
    box.value = "";
  }

  /** Caption and metadata as they stand now: they apply to what is added from here on. */
  private details(): FormData {
    const fields = new FormData();
    for (const name of ["caption", "metadata"]) {
      const value = need<HTMLInputElement>(`[name=${name}]`, this.form).value.trim();
      if (value) fields.set(name, value);
    }
    return fields;
  }

  /** The newest files stand first, in the order in which they are sent. */
  private queue(items: Item[]): void {
    this.results.hidden = false;
    this.items.push(...items);
    for (const item of items) {
      item.row.say("waiting", t("Waiting"));
      item.row.changed = () => this.changed(item);
    }
    showRows(
      this.list,
      items.map((item) => item.row),
    );
    for (const item of this.items) if (item.row.element.dataset.state === "failed") place(this.list, item.row);
    this.waiting.push(...items);
    this.sumUp();
    this.next();
  }

  private changed(item: Item): void {
    if (item.row.element.dataset.state === "failed") place(this.list, item.row);
    else delete item.retry;
    this.sumUp();
  }

  /** "11 ready, 2 failed", and what is still on its way. */
  private sumUp(): void {
    const count = (...states: string[]) => all("li", this.list).filter((row) => states.includes(stateOf(row))).length;
    const [done, failed, open] = [count("done"), count("failed"), count("waiting", "sending", "paused", "working")];
    const parts = [
      done ? nt("{count} ready", "{count} ready", done) : "",
      failed ? nt("{count} failed", "{count} failed", failed) : "",
      open ? nt("{count} in progress", "{count} in progress", open) : "",
    ];
    const words = parts.filter(Boolean).join(t(", "));
    const place = need<HTMLElement>("[data-summary]", this.results);
    // Only a change: it is read out.
    if (place.textContent !== words) place.textContent = words;
    this.retryAll.hidden = this.items.filter((item) => item.retry).length < 2;
  }

  private next(): void {
    while (this.active < AT_ONCE && this.waiting.length) void this.send(this.waiting.shift() as Item);
  }

  private async send(item: Item): Promise<void> {
    const { fields, file, row } = item;
    this.active += 1;
    try {
      if (file && isImport(file)) await sendImport(this.importUrl, file, row);
      else this.accepted(item, await deliver<Accepted>(this.form.action, fields, file, row));
    } catch (error) {
      this.refused(item, error);
    } finally {
      this.active -= 1;
      this.next();
    }
  }

  /** The bytes are not there: the same file is sent again where that may help, else another one is chosen. */
  private refused(item: Item, error: unknown): void {
    const words = error instanceof Error ? error.message : String(error);
    if (error instanceof Refused && !error.passing) {
      const choose = () => need<HTMLButtonElement>("[data-pick]", this.form).click();
      return item.row.fail(words, "", t("Choose another file"), choose);
    }
    item.row.fail(words, "", t("Send again"), () => this.sendAgain(item));
    item.retry = () => this.sendAgain(item);
    this.sumUp();
  }

  private sendAgain(item: Item): void {
    item.row.say("waiting", t("Waiting"));
    this.waiting.push(item);
    this.next();
  }

  private accepted(item: Item, accepted: Accepted): void {
    const { row } = item;
    if (accepted.skipped && accepted.earlier) {
      const { title, url } = accepted.earlier;
      return row.link("done", t("Skipped: here already as “{title}”", { title }), url);
    }
    tellOfChange();
    if (!accepted.job) return this.ready(row, accepted);
    this.follow(item, accepted, accepted.job);
  }

  private follow(item: Item, accepted: Accepted, job: Job): void {
    item.row.say("working", t("Waiting for a worker"));
    watch(job.id, (now) => this.followed(item, accepted, now));
  }

  private followed(item: Item, accepted: Accepted, job: Job): void {
    const { row } = item;
    if (job.state === "running") row.say("working", t("Being indexed"));
    if (!finished(job)) return;
    tellOfChange();
    if (job.state === "succeeded") return this.ready(row, accepted);
    const reason = job.error?.detail ?? (job.state === "cancelled" ? t("The work was cancelled.") : t("The work failed."));
    const retry = () => void this.process(item, accepted);
    row.fail(capitalised(reason), advice(job), t("Try again"), retry);
    item.retry = retry;
    this.sumUp();
  }

  /** The bytes are there: only the work is done anew. */
  private async process(item: Item, accepted: Accepted): Promise<void> {
    item.row.say("working", t("Waiting for a worker"));
    const fields = new FormData();
    fields.set("asset", accepted.asset.id);
    try {
      const headers = { "X-CSRFToken": csrfToken(), Accept: "application/json" };
      const answer = await fetch(this.results.dataset.retry ?? "", { method: "POST", body: fields, headers });
      const body = (await answer.json()) as { job: Job | null; detail?: string };
      if (!answer.ok || !body.job) throw new Error(body.detail ?? t("This was not accepted."));
      this.follow(item, accepted, body.job);
      tellOfChange();
    } catch (error) {
      const retry = () => void this.process(item, accepted);
      item.row.fail(error instanceof Error ? error.message : String(error), "", t("Try again"), retry);
      item.retry = retry;
      this.sumUp();
    }
  }

  private ready(row: Row, accepted: Accepted): void {
    if (accepted.earlier) row.link("done", t("Ready; here before as “{title}”", { title: accepted.earlier.title }), accepted.earlier.url);
    else row.say("done", t("Ready"));
    find("#no-assets")?.remove();
    find(`#asset-${accepted.asset.id}`)?.remove();
    void prependFrom(accepted.asset.tile, need("#tiles"));
  }
}

function stateOf(row: Element): string {
  return (row as HTMLElement).dataset.state ?? "";
}

/** What to do about a job that failed, in the words that the page brought. */
function advice(job: Job): string {
  const type = job.state === "cancelled" ? "cancelled" : (job.error?.type ?? "");
  const lines = all<HTMLElement>("#upload-advice [data-code]");
  const of = (code: string) => lines.find((line) => line.dataset.code === code)?.textContent;
  return of(type) ?? of("") ?? "";
}

/** The tabs count anew. */
function tellOfChange(): void {
  document.body.dispatchEvent(new Event("assets-changed"));
}

function capitalised(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** The tabs ask for those of the first assets of the list, too, that are being processed: they are drawn anew. */
function followUnsettled(event: Event): void {
  const { elt, parameters } = (event as CustomEvent<{ elt: Element; parameters: Record<string, unknown> }>).detail;
  if (elt.id !== "asset-tabs") return;
  const waiting = all<HTMLInputElement>("[name=unsettled]").slice(0, MOST_FOLLOWED);
  if (waiting.length) parameters.unsettled = waiting.map((input) => input.value);
}

export function startUploads(): void {
  document.body.addEventListener("htmx:configRequest", followUnsettled);
  const form = find<HTMLFormElement>("#upload-form");
  if (form) new Uploader(form).listen();
}
