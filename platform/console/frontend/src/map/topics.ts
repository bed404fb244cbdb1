// The topics of a map beside it, its outliers, and what a search found: each line leads to its points.
import { find, need } from "../dom";
import { nt, shown, t } from "../words";
import { type Named, namesOf, thumb } from "./assets";
import type { Match, Model } from "./model";
import { told } from "./model";
import type { Label, Plot } from "./plot";

const OUTLIERS = 24;

export interface Chosen {
  choose(places: number[]): void;
  tell(place: number): void;
  redraw(): void;
}

/** What stands on the plot: ranks of results, then topics, the largest first. */
export function labelsOf(model: Model, withTopics: boolean): Label[] {
  const ranks = [...model.best].map(([place, match]): Label => ({
    x: model.scene.x[place] ?? 0, y: model.scene.y[place] ?? 0, text: String(match.rank), above: 14, strong: true,
  }));
  if (!withTopics) return ranks;
  const topics = [...model.topics].sort((a, b) => b.members.length - a.members.length);
  return [
    ...ranks,
    ...topics.map(({ x, y, name, guessed }): Label => ({ x, y, text: guessed ? `≈ ${name}` : name, above: 0, strong: false })),
  ];
}

export function showTopics(root: HTMLElement, model: Model, plot: Plot, acts: Chosen): void {
  const list = need<HTMLElement>("[data-topics-list]", root);
  const none = need<HTMLElement>("[data-no-topics]", root);
  // Nothing is said before the server has told the names.
  none.hidden = model.hasTopics && (model.topics.length > 0 || !model.isNamed);
  none.textContent = model.hasTopics ? t("Too few points for topics.") : t("This map has no topics. Draw one by UMAP below to find some.");
  list.replaceChildren(...model.topics.map((one) => {
    const row = document.createElement("li");
    const go = button(one.guessed ? `≈ ${one.name}` : one.name, shown(one.members.length));
    if (one.guessed) go.title = t("Named by likeness, as these assets have no words in common.");
    go.addEventListener("click", () => plot.showPlaces(one.members));
    const choose = button(t("Select"));
    choose.setAttribute("aria-label", t("Select {name}", { name: one.name }));
    choose.addEventListener("click", () => acts.choose(one.members));
    row.append(go, choose);
    return row;
  }));
}

export async function showOutliers(root: HTMLElement, model: Model, acts: Chosen): Promise<void> {
  const section = need<HTMLElement>("[data-outliers]", root);
  const places = model.outliers();
  section.hidden = !model.answer.columns.outlier;
  need("[data-outliers-count]", section).textContent = places.length
    ? nt("{count} asset lies far from its neighbours.", "{count} assets lie far from their neighbours.", places.length)
    : t("None: no asset lies far from its neighbours.");
  need<HTMLElement>("[data-outliers-tools]", section).hidden = !places.length;
  const ids = places.slice(0, OUTLIERS).map((place) => model.idOf(place));
  const names = await namesOf(root.dataset.names ?? "", ids).catch(() => new Map<string, Named>());
  need("[data-outliers-list]", section).replaceChildren(...ids.flatMap((id) => names.get(id) ?? []).map(thumb));
  acts.redraw();
}

export interface Found extends Named {
  id: string;
  score: number;
  relevance: number | null;
}

/** The best of a search in their order; those that are not on the map are told, too. */
export function showFound(root: HTMLElement, model: Model, best: Found[], acts: Chosen): void {
  const section = find<HTMLElement>("[data-found]", root);
  if (!section) return;
  section.hidden = !best.length;
  model.best = new Map(best.flatMap((one, at): [number, Match][] => {
    const place = model.placeOf(one.id);
    return place === undefined ? [] : [[place, { rank: at + 1, score: one.score, relevance: one.relevance }]];
  }));
  need("[data-found-list]", section).replaceChildren(...best.map((one) => {
    const row = document.createElement("li");
    const place = model.placeOf(one.id);
    const go = button(one.name, scoreOf(one));
    go.disabled = place === undefined;
    if (place === undefined) go.title = t("Not on this map.");
    else go.addEventListener("click", () => acts.tell(place));
    row.append(go);
    return row;
  }));
}

function scoreOf(one: Found): string {
  const score = told(one.score);
  return one.relevance === null ? score : `${Math.round(one.relevance * 100)} % · ${score}`;
}

function button(...words: string[]): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.append(...words.map((one) => {
    const span = document.createElement("span");
    span.textContent = one;
    return span;
  }));
  return made;
}
