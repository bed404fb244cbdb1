// What the page knows of its points: where they are, what they are, which are shown and which are chosen.
import { codeName, t } from "../words";
import { idAt, placeOfId } from "./packed";
import { CATEGORIES, STEPS, categoryColour, pixel, stepColour } from "./palette";
import type { Scene } from "./plot";

export interface Column {
  kind?: string;
  values?: string[];
  codes?: Int8Array;
  /** NaN for none. */
  numbers?: Float32Array;
}

export interface Answer {
  method: string;
  model: string;
  total: number;
  stamp: string;
  details: { kept_neighbours?: number; explained?: number[] };
  count: number;
  x: Float32Array;
  y: Float32Array;
  columns: Record<string, Column>;
  x2?: Float32Array;
  y2?: Float32Array;
  moved?: Float32Array;
  most_moved?: string[];
}

/** What a search found, by its place; the best have a rank and a score, and a relevance where it is known. */
export interface Match {
  rank: number;
  score: number;
  relevance: number | null;
}

/** A cluster of the points: its name, its members, and the middle of those that are shown. */
export interface Topic {
  topic: number;
  name: string;
  guessed: boolean;
  members: number[];
  x: number;
  y: number;
}

// Of what was not found, while a search is lit.
const DIM = 60;
// A middle is told by so many members.
const MIDDLED = 2000;

/** One line of the legend: `group` of a point is the place of its line. */
export interface Line {
  label: string;
  colour: [number, number, number];
  count: number;
  shown: boolean;
}

export class Model {
  lines: Line[] = [];
  group = new Uint8Array();
  chosen = new Set<number>();
  found = new Set<number>();
  best = new Map<number, Match>();
  topics: Topic[] = [];
  isNamed = false;
  markOutliers = false;
  private names: string[] = [];
  scene: Scene;
  private after: [Float32Array, Float32Array] | null;
  private before: [Float32Array, Float32Array];
  private ids = new Uint8Array();

  constructor(public answer: Answer, private datasets: Record<string, string>) {
    const count = answer.count;
    this.before = [answer.x, answer.y];
    this.after = answer.x2 && answer.y2 ? [answer.x2, answer.y2] : null;
    this.scene = {
      x: this.after ? answer.x.slice() : answer.x,
      y: this.after ? answer.y.slice() : answer.y,
      colour: new Uint32Array(count),
      marked: new Uint8Array(count),
    };
  }

  get count(): number {
    return this.answer.count;
  }

  /** They come after what is drawn. */
  identify(ids: Uint8Array): void {
    this.ids = ids as Uint8Array<ArrayBuffer>;
  }

  /** Empty while the ids are on their way. */
  idOf(place: number): string {
    return this.ids.length ? idAt(this.ids, place) : "";
  }

  placeOf(id: string): number | undefined {
    const place = placeOfId(this.ids, id);
    return place < 0 ? undefined : place;
  }

  /** Between the places of the first model (0) and of the second one (1). */
  between(share: number): void {
    if (!this.after) return;
    for (let place = 0; place < this.count; place++) {
      this.scene.x[place] = (this.before[0][place] ?? 0) * (1 - share) + (this.after[0][place] ?? 0) * share;
      this.scene.y[place] = (this.before[1][place] ?? 0) * (1 - share) + (this.after[1][place] ?? 0) * share;
    }
  }

  /** Colour by a column: makes the legend anew, with everything shown. */
  colourBy(name: string): void {
    const column = this.column(name);
    if (column.numbers) this.byNumber(column.numbers);
    else this.byCategory(name, column.values ?? [], column.codes ?? new Int8Array());
    this.refresh();
  }

  /** The text of a point under a column. */
  valueOf(name: string, place: number): string {
    const column = this.column(name);
    if (column.numbers) return told(column.numbers[place] ?? NaN);
    const code = column.codes?.[place] ?? -1;
    return code < 0 ? (code === -2 ? t("other") : "–") : this.label(name, column.values?.[code] ?? "");
  }

  isShown(place: number): boolean {
    return this.lines[this.group[place] ?? 0]?.shown ?? true;
  }

  shownPlaces(): number[] {
    const found: number[] = [];
    for (let place = 0; place < this.count; place++) if (this.isShown(place)) found.push(place);
    return found;
  }

  /** What is drawn, after a change of legend, selection or matches. */
  refresh(): void {
    const alpha = this.found.size ? DIM : 255;
    const pixels = this.lines.map((line) => (line.shown ? pixel(line.colour, alpha) : 0));
    const outlier = this.markOutliers ? this.answer.columns.outlier?.codes : undefined;
    for (let place = 0; place < this.count; place++) {
      this.scene.colour[place] = pixels[this.group[place] ?? 0] ?? 0;
      this.scene.marked[place] = outlier?.[place] === 0 ? 1 : 0;
    }
    for (const place of this.chosen) this.scene.marked[place] = 1;
    for (const place of this.found) this.light(place);
  }

  /** The best by their score, the others in their own colour. */
  private light(place: number): void {
    const line = this.lines[this.group[place] ?? 0];
    if (!line?.shown) return;
    const match = this.best.get(place);
    this.scene.marked[place] = 1;
    this.scene.colour[place] = pixel(match ? stepColour(this.step(match.score)) : line.colour);
  }

  private step(score: number): number {
    const scores = [...this.best.values()].map((one) => one.score);
    const least = Math.min(...scores);
    const width = Math.max(...scores) - least;
    return width > 0 ? Math.round(((score - least) / width) * (STEPS - 1)) : STEPS - 1;
  }

  get hasTopics(): boolean {
    return this.answer.columns.topic !== undefined;
  }

  outliers(): number[] {
    const found: number[] = [];
    this.answer.columns.outlier?.codes?.forEach((code, place) => code === 0 && found.push(place));
    return found;
  }

  /** Names by topic, as the server tells them; those without points are left out. */
  nameTopics(told: { topic: number; words: string[]; guessed: boolean }[]): void {
    const members: number[][] = (this.answer.columns.topic?.values ?? []).map(() => []);
    this.answer.columns.topic?.codes?.forEach((topic, place) => members[topic]?.push(place));
    const known = new Map(told.map((one) => [one.topic, one]));
    this.topics = members
      .map((places, topic) => {
        const words = known.get(topic)?.words ?? [];
        const name = words.length ? words.join(" · ") : t("Topic {number}", { number: topic + 1 });
        return { topic, name, guessed: known.get(topic)?.guessed ?? false, members: places, x: 0, y: 0 };
      })
      .filter((one) => one.members.length);
    this.names = [];
    this.isNamed = true;
    for (const one of this.topics) this.names[one.topic] = one.name;
    this.placeTopics();
  }

  /** The medians of the members that are shown; NaN where none is. */
  placeTopics(): void {
    for (const one of this.topics) {
      const step = Math.max(1, Math.floor(one.members.length / MIDDLED));
      const some = one.members.filter((place, at) => at % step === 0 && this.isShown(place));
      one.x = median(some.map((place) => this.scene.x[place] ?? 0));
      one.y = median(some.map((place) => this.scene.y[place] ?? 0));
    }
  }

  private column(name: string): Column {
    if (name === "moved") return { numbers: this.answer.moved ?? new Float32Array() };
    return this.answer.columns[name.startsWith("field:") ? "field" : name] ?? {};
  }

  private label(name: string, value: string): string {
    if (name === "dataset") return this.datasets[value] ?? value;
    if (name === "topic") return this.names[Number(value)] ?? t("Topic {number}", { number: Number(value) + 1 });
    return name === "outlier" ? t("Outlier") : codeName(value);
  }

  private byCategory(name: string, values: string[], codes: Int8Array): void {
    // Topics are told apart by where they lie and by their names, so colours come again.
    const again = name === "topic";
    const own = again ? values : values.slice(0, values.length > CATEGORIES ? CATEGORIES - 1 : CATEGORIES);
    this.lines = own.map((value, place) => this.line(this.label(name, value), categoryColour(again ? place % (CATEGORIES - 1) : place)));
    this.lines.push(this.line(t("Other values"), categoryColour(CATEGORIES - 1)));
    this.lines.push(this.line(t("None"), categoryColour(CATEGORIES)));
    this.assign(codes, (code) => (code === -1 ? own.length + 1 : code < 0 || code >= own.length ? own.length : code));
  }

  private byNumber(numbers: Float32Array): void {
    const known = numbers.filter((one) => !Number.isNaN(one));
    const least = known.reduce((a, b) => Math.min(a, b), Infinity);
    const most = known.reduce((a, b) => Math.max(a, b), -Infinity);
    const width = (most - least) / STEPS || 1;
    this.lines = Array.from({ length: known.length ? STEPS : 0 }, (_, step) =>
      this.line(`${told(least + step * width)} – ${told(least + (step + 1) * width)}`, stepColour(step)),
    );
    this.lines.push(this.line(t("None"), categoryColour(CATEGORIES)));
    const none = this.lines.length - 1;
    this.assign(numbers, (one) => (Number.isNaN(one) ? none : Math.min(STEPS - 1, Math.floor((one - least) / width))));
  }

  private line(label: string, colour: [number, number, number]): Line {
    return { label, colour, count: 0, shown: true };
  }

  private assign(values: Int8Array | Float32Array, lineOf: (value: number) => number): void {
    this.group = new Uint8Array(this.count);
    const counts = new Array<number>(this.lines.length).fill(0);
    for (let place = 0; place < values.length; place++) {
      const group = lineOf(values[place] ?? NaN);
      this.group[place] = group;
      counts[group] = (counts[group] ?? 0) + 1;
    }
    this.lines.forEach((line, at) => (line.count = counts[at] ?? 0));
  }
}

function median(values: number[]): number {
  values.sort((a, b) => a - b);
  return values[values.length >> 1] ?? NaN;
}

export function told(value: number): string {
  return Number.isNaN(value) ? "–" : new Intl.NumberFormat(document.documentElement.lang, { maximumSignificantDigits: 4 }).format(value);
}
