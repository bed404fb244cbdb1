// Names and pictures of assets, asked for as they are needed and remembered.
import { csrfToken } from "../dom";
import { t } from "../words";

export interface Named {
  name: string;
  modality: string;
  words: string;
  url: string;
  picture: string;
}

/** The newest asked for last; more than these are forgotten. */
const known = new Map<string, Promise<Named | null>>();
const MOST = 100;
const REMEMBERED = 2000;

/** POST a body; the answer, or an error with the words of the server. */
export async function post<Answer>(url: string, body: unknown): Promise<Answer> {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken(), "HX-Request": "true" },
    body: JSON.stringify(body),
  });
  return read<Answer>(answer);
}

export async function read<Answer>(answer: Response): Promise<Answer> {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail ?? t("The server did not answer. Try again."));
  return body as Answer;
}

/** Of these ids, by id; null for what is gone. Each is asked for once, also by two who ask at the same time. */
export async function namesOf(url: string, ids: string[]): Promise<Map<string, Named | null>> {
  const missing = ids.filter((id) => !known.has(id)).slice(0, MOST);
  if (missing.length) {
    const asked = post<{ assets: Record<string, Named> }>(url, missing);
    for (const id of missing) known.set(id, asked.then(({ assets }) => assets[id] ?? null));
    // What could not be asked for is asked for again.
    asked.catch(() => missing.forEach((id) => known.delete(id)));
    for (const id of known.keys()) {
      if (known.size <= REMEMBERED) break;
      known.delete(id);
    }
  }
  return new Map(await Promise.all(ids.map(async (id) => [id, (await known.get(id)) ?? null] as const)));
}

/** As the server told of them already. */
export function remember(id: string, named: Named): void {
  known.set(id, Promise.resolve(named));
}

/** A small picture with a name, linked to its asset. */
export function thumb(named: Named): HTMLLIElement {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = named.url;
  link.title = named.name;
  if (named.picture) {
    const picture = document.createElement("img");
    picture.src = named.picture;
    picture.alt = "";
    picture.loading = "lazy";
    link.append(picture);
  } else {
    const none = document.createElement("span");
    none.className = "map-none";
    link.append(none);
  }
  link.append(named.name);
  item.append(link);
  return item;
}
