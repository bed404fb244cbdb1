// The form on the page of audits: a file is sent with its progress, dropped or picked; then the audit's own page follows.
import { find, need, onDrop, setFiles } from "./dom";
import { Row, showRows } from "./rows";
import { deliver, Refused } from "./sending";

export function startAudits(): void {
  const form = find<HTMLFormElement>("#audit-form");
  if (!form) return;
  const input = need<HTMLInputElement>("[type=file]", form);
  onDrop(document.body, (files) => {
    setFiles(input, files.slice(0, 1));
    const fold = form.closest("details");
    if (fold) fold.open = true;
    input.focus();
  });
  form.addEventListener("submit", (event) => {
    const file = input.files?.[0];
    if (!file) return; // a text goes as the form is
    event.preventDefault();
    void send(form, file);
  });
}

async function send(form: HTMLFormElement, file: File): Promise<void> {
  const fields = new FormData(form);
  fields.delete("file");
  const row = new Row(file.name);
  const button = need<HTMLButtonElement>("[type=submit]", form);
  showRows(need("#uploads"), [row]);
  button.disabled = true;
  try {
    const { page } = await deliver<{ page: string }>(form.action, fields, file, row, "parts" in form.dataset);
    window.location.assign(page);
  } catch (error) {
    row.say("failed", error instanceof Refused ? error.message : String(error));
    button.disabled = false;
  }
}
