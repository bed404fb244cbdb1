// What the page knows of its points: where they are, what they are, which are shown and which are chosen.
import { codeName, t } from "../words";
import { CATEGORIES, STEPS, categoryColour, pixel, stepColour } from "./palette";
import type { Scene } from "./plot";

export interface Column {
  kind?: string;
  values?: string[];
  codes?: number[];
  numbers?: (number | null)[];
}

export interface Answer {
  method: string;
  model: string;
  total: number;
  details: { kept_neighbours?: number; explained?: number[] };
  ids: string[];
  x: number[];
  y: number[];
  columns: Record<string, Column>;
  x2?: number[];
  y2?: number[];
  moved?: number[];
  most_moved?: string[];
}

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
  scene: Scene;
  private after: [Float32Array, Float32Array] | null;
  private before: [Float32Array, Float32Array];
  places = new Map<string, number>();

  constructor(public answer: Answer, private datasets: Record<string, string>) {
    const count = answer.ids.length;
    this.before = [Float32Array.from(answer.x), Float32Array.from(answer.y)];
    this.after = answer.x2 && answer.y2 ? [Float32Array.from(answer.x2), Float32Array.from(answer.y2)] : null;
    this.scene = {
      x: this.before[0].slice(),
      y: this.before[1].slice(),
      colour: new Uint32Array(count),
      marked: new Uint8Array(count),
    };
    answer.ids.forEach((id, place) => this.places.set(id, place));
  }

  get count(): number {
    return this.answer.ids.length;
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
    else this.byCategory(name, column.values ?? [], column.codes ?? []);
    this.refresh();
  }

  /** The text of a point under a column. */
  valueOf(name: string, place: number): string {
    const column = this.column(name);
    if (column.numbers) return told(column.numbers[place] ?? null);
    const code = column.codes?.[place] ?? -1;
    return code < 0 ? (code === -2 ? t("other") : "–") : this.label(name, column.values?.[code] ?? "");
  }

  isShown(place: number): boolean {
    return this.lines[this.group[place] ?? 0]?.shown ?? true;
  }

  shownPlaces(): number[] {
    return Array.from({ length: this.count }, (_, place) => place).filter((place) => this.isShown(place));
  }

  /** What is drawn, after a change of legend, selection or matches. */
  refresh(): void {
    const pixels = this.lines.map((line) => (line.shown ? pixel(line.colour) : 0));
    for (let place = 0; place < this.count; place++) {
      this.scene.colour[place] = pixels[this.group[place] ?? 0] ?? 0;
      this.scene.marked[place] = this.chosen.has(place) || this.found.has(place) ? 1 : 0;
    }
  }

  private column(name: string): Column {
    if (name === "moved") return { numbers: this.answer.moved ?? [] };
    return this.answer.columns[name.startsWith("field:") ? "field" : name] ?? {};
  }

  private label(name: string, value: string): string {
    return name === "dataset" ? (this.datasets[value] ?? value) : codeName(value);
  }

  private byCategory(name: string, values: string[], codes: number[]): void {
    const own = values.slice(0, values.length > CATEGORIES ? CATEGORIES - 1 : CATEGORIES);
    this.lines = own.map((value, place) => this.line(this.label(name, value), categoryColour(place)));
    this.lines.push(this.line(t("Other values"), categoryColour(CATEGORIES - 1)));
    this.lines.push(this.line(t("None"), categoryColour(CATEGORIES)));
    this.assign(codes.map((code) => (code === -1 ? own.length + 1 : code < 0 || code >= own.length ? own.length : code)));
  }

  private byNumber(numbers: (number | null)[]): void {
    const known = numbers.filter((one): one is number => one !== null);
    const least = known.reduce((a, b) => Math.min(a, b), Infinity);
    const most = known.reduce((a, b) => Math.max(a, b), -Infinity);
    const width = (most - least) / STEPS || 1;
    this.lines = Array.from({ length: known.length ? STEPS : 0 }, (_, step) =>
      this.line(`${told(least + step * width)} – ${told(least + (step + 1) * width)}`, stepColour(step)),
    );
    this.lines.push(this.line(t("None"), categoryColour(CATEGORIES)));
    const none = this.lines.length - 1;
    this.assign(numbers.map((one) => (one === null ? none : Math.min(STEPS - 1, Math.floor((one - least) / width)))));
  }

  private line(label: string, colour: [number, number, number]): Line {
    return { label, colour, count: 0, shown: true };
  }

  private assign(groups: number[]): void {
    this.group = Uint8Array.from(groups);
    for (const group of groups) {
      const line = this.lines[group];
      if (line) line.count += 1;
    }
  }
}

export function told(value: number | null): string {
  return value === null ? "–" : new Intl.NumberFormat(document.documentElement.lang, { maximumSignificantDigits: 4 }).format(value);
}
