// A picture that was sent only for a search, saved as an asset: then the search has a link.
import { csrfToken, find, need } from "./dom";
import { finished, watch, type Job } from "./watch";
import { t } from "./words";

interface Accepted {
  asset: { id: string };
  job: Job | null;
}

/** `saved` is told the new asset's id once it can be compared. */
export function startKeeping(picture: () => File | undefined, saved: (id: string) => void): void {
  document.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLButtonElement>("[data-keep-picture]");
    const file = picture();
    if (button && file) void keep(button, file, saved);
  });
}

async function keep(button: HTMLButtonElement, file: File, saved: (id: string) => void): Promise<void> {
  const place = need<HTMLSelectElement>("#keep-in").value;
  button.disabled = true;
  say(t("Saving the picture"));
  try {
    const accepted = await send(place, file);
    if (!accepted.job) return saved(accepted.asset.id);
    say(t("Being indexed"));
    watch(accepted.job.id, (job) => {
      if (!finished(job)) return;
      if (job.state === "succeeded") saved(accepted.asset.id);
      else fail(button, job.error?.detail ?? t("The picture could not be indexed."));
    });
  } catch (error) {
    fail(button, error instanceof Error ? error.message : String(error));
  }
}

async function send(place: string, file: File): Promise<Accepted> {
  const fields = new FormData();
  fields.set("file", file);
  const headers = { "X-CSRFToken": csrfToken(), Accept: "application/json" };
  const answer = await fetch(place, { method: "POST", body: fields, headers });
  const body = (await answer.json()) as Accepted & { detail?: string };
  if (!answer.ok) throw new Error(body.detail ?? t("This was not accepted."));
  return body;
}

function fail(button: HTMLButtonElement, words: string): void {
  button.disabled = false;
  say(words);
}

/** Another search may have taken the place of the one whose picture is saved. */
function say(words: string): void {
  const line = find<HTMLElement>("[data-keep-words]");
  if (line) line.textContent = words;
}
