// Uploading to a dataset: a row with a progress bar for each file, three at a time, then its job until it is ready.
import { find, need, onDrop, prependFrom } from "./dom";
import { isImport, sendImport, tellBrokenOff } from "./imports";
import { notice } from "./notices";
import { Row, showRows } from "./rows";
import { deliver, Refused } from "./sending";
import { finished, watch, type Job } from "./watch";
import { shown, t } from "./words";

const AT_ONCE = 3;
// More are an import: one archive is sent and followed more easily than so many files.
const MANY = 1000;

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
}

class Uploader {
  private readonly waiting: Item[] = [];
  private active = 0;
  private readonly list = need<HTMLElement>("#uploads");

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
    const alone = files.length === 1 && !this.active && !this.waiting.length;
    const items = files.map((file) => ({
      fields: this.details(),
      file,
      row: new Row(file.webkitRelativePath || file.name || t("pasted picture")),
    }));
    if (alone && items[0] && isImport(items[0].file)) return void this.open(items[0].file, items[0].row);
    this.queue(items);
  }

  /** A single table or archive: the next thing that one wants to see is what it holds. */
  private async open(file: File, row: Row): Promise<void> {
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
    for (const item of items) item.row.say("waiting", t("Waiting"));
    showRows(
      this.list,
      items.map((item) => item.row),
    );
    this.waiting.push(...items);
    this.next();
  }

  private next(): void {
    while (this.active < AT_ONCE && this.waiting.length) void this.send(this.waiting.shift() as Item);
  }

  private async send({ fields, file, row }: Item): Promise<void> {
    this.active += 1;
    try {
      if (file && isImport(file)) await sendImport(this.importUrl, file, row);
      else this.accepted(row, await deliver<Accepted>(this.form.action, fields, file, row));
    } catch (error) {
      row.say("failed", error instanceof Refused ? error.message : String(error));
    } finally {
      this.active -= 1;
      this.next();
    }
  }

  private accepted(row: Row, accepted: Accepted): void {
    if (accepted.skipped && accepted.earlier) {
      const { title, url } = accepted.earlier;
      return row.link("done", t("Skipped: here already as “{title}”", { title }), url);
    }
    countOne();
    if (!accepted.job) return this.ready(row, accepted);
    row.say("working", t("Waiting for a worker"));
    watch(accepted.job.id, (job) => this.followed(row, accepted, job));
  }

  private followed(row: Row, accepted: Accepted, job: Job): void {
    if (job.state === "running") row.say("working", t("Being indexed"));
    if (!finished(job)) return;
    if (job.state === "succeeded") return this.ready(row, accepted);
    row.say("failed", capitalised(job.error?.detail ?? (job.state === "cancelled" ? t("The work was cancelled.") : t("The work failed."))));
  }

  private ready(row: Row, accepted: Accepted): void {
    if (accepted.earlier) row.link("done", t("Ready; here before as “{title}”", { title: accepted.earlier.title }), accepted.earlier.url);
    else row.say("done", t("Ready"));
    find("#no-assets")?.remove();
    find(`#asset-${accepted.asset.id}`)?.remove();
    void prependFrom(accepted.asset.tile, need("#tiles"));
  }
}

/** One asset more in the dataset than when the page was made. */
function countOne(): void {
  const place = find<HTMLElement>("[data-asset-count]");
  if (!place) return;
  const count = Number(place.dataset.assetCount) + 1;
  place.dataset.assetCount = String(count);
  place.textContent = shown(count);
}

function capitalised(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function startUploads(): void {
  const form = find<HTMLFormElement>("#upload-form");
  if (form) new Uploader(form).listen();
}
