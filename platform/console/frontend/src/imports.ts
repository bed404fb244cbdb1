// Files that hold many assets: sent like others, then looked at on a page of their own.
import { find, need, onDrop, setFiles } from "./dom";
import { Row, showRows } from "./rows";
import { brokenOff, deliver, Refused } from "./sending";
import { notice } from "./notices";
import { t } from "./words";

const TABLES_AND_ARCHIVES = /\.(zip|tar|csv|tsv|jsonl|ndjson|parquet)$/i;

export function isImport(file: File): boolean {
  return TABLES_AND_ARCHIVES.test(file.name);
}

/** Send the file; the address of the page on which it is looked at, or "" and the row says why not. */
export async function sendImport(url: string, file: File, row: Row): Promise<string> {
  try {
    const { page } = await deliver<{ page: string }>(url, new FormData(), file, row);
    row.link("done", t("Look at it and start"), page);
    return page;
  } catch (error) {
    row.say("failed", error instanceof Refused ? error.message : String(error));
    return "";
  }
}

/** Tell which files were not sent to their end, as their rest is kept for a day. */
export async function tellBrokenOff(places: string[]): Promise<void> {
  const names = await brokenOff(places);
  if (names.length) notice(t("Not sent to its end: {names}. Add it again to go on where it stopped.", { names: names.join(", ") }));
}

export function startImports(): void {
  const form = find<HTMLFormElement>("#import-form");
  if (!form) return;
  const input = need<HTMLInputElement>("[type=file]", form);
  onDrop(document.body, (files) => {
    setFiles(input, files.slice(0, 1));
    form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    const file = input.files?.[0];
    if (!file) return;
    event.preventDefault();
    void sendAndOpen(form, file);
  });
  void tellBrokenOff([form.action]);
}

async function sendAndOpen(form: HTMLFormElement, file: File): Promise<void> {
  const row = new Row(file.name);
  const button = need<HTMLButtonElement>("[type=submit]", form);
  showRows(need("#uploads"), [row]);
  button.disabled = true;
  const page = await sendImport(form.action, file, row);
  button.disabled = false;
  if (page) window.location.assign(page);
}
