// Names and pictures of assets, asked for as they are needed and remembered.
import { csrfToken } from "../dom";
import { t } from "../words";

export interface Named {
  name: string;
  modality: string;
  url: string;
  picture: string;
}

const known = new Map<string, Named | null>();
const MOST = 100;

/** POST a list of ids; the answer, or an error with the words of the server. */
export async function post<Answer>(url: string, ids: string[]): Promise<Answer> {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken(), "HX-Request": "true" },
    body: JSON.stringify(ids),
  });
  return read<Answer>(answer);
}

export async function read<Answer>(answer: Response): Promise<Answer> {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail ?? t("The server did not answer. Try again."));
  return body as Answer;
}

/** Of these ids, by id; null for what is gone. */
export async function namesOf(url: string, ids: string[]): Promise<Map<string, Named | null>> {
  const missing = ids.filter((id) => !known.has(id)).slice(0, MOST);
  if (missing.length) {
    const { assets } = await post<{ assets: Record<string, Named> }>(url, missing);
    for (const id of missing) known.set(id, assets[id] ?? null);
  }
  return new Map(ids.map((id) => [id, known.get(id) ?? null]));
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
