// Reading values off charts, by pointer and by keyboard. The server draws them; without this they have a table.
import { all, find } from "./dom";

// From the left and from the top in per cent, at what (an epoch, a day), and which value.
type Reading = [number, number, string, string];

const SVG = "http://www.w3.org/2000/svg";
/** Pixels between the line and what is read. */
const GAP = 10;
const started = new WeakSet<Element>();

// What is read stays so when the part of the page is drawn anew: at what, and the chart that has the focus.
let place: string | null = null;
let focused = "";

class Plot {
  readonly name: string;
  private readonly area: HTMLElement;
  private readonly drawing: SVGSVGElement;
  private readonly cursor = document.createElementNS(SVG, "line");
  private readonly marks: SVGCircleElement[] = [];
  private readonly told = document.createElement("div");
  private readonly runs: { name: string; colour: string; readings: Reading[] }[];
  /** Everything at which something can be read, and where that is, from the left. */
  private readonly places: { at: string; left: number }[];

  constructor(root: HTMLElement) {
    this.name = root.dataset.plot ?? "";
    this.area = find<HTMLElement>("[data-area]", root) ?? root;
    this.drawing = find<SVGSVGElement>("svg", this.area) ?? document.createElementNS(SVG, "svg");
    this.runs = all<SVGGElement>("[data-readings]", this.drawing).map((group) => ({
      name: group.dataset.run ?? "",
      colour: group.getAttribute("class") ?? "",
      readings: JSON.parse(group.dataset.readings ?? "[]") as Reading[],
    }));
    const found = new Map(this.runs.flatMap((run) => run.readings.map(([left, , at]) => [at, left])));
    this.places = [...found].map(([at, left]) => ({ at, left })).sort((one, other) => one.left - other.left);
  }

  start(): void {
    if (!this.places.length) return;
    this.cursor.setAttribute("class", "cursor");
    this.cursor.setAttribute("y1", "0");
    this.cursor.setAttribute("y2", "100%");
    this.told.className = "reading";
    this.told.setAttribute("aria-hidden", "true");
    const area = this.area;
    const label = this.drawing.getAttribute("aria-label") ?? "";
    this.drawing.setAttribute("aria-hidden", "true");
    for (const [name, value] of Object.entries({
      role: "slider",
      tabindex: "0",
      "aria-label": label,
      "aria-valuemin": "1",
      "aria-valuemax": String(this.places.length),
    }))
      area.setAttribute(name, value);
    area.addEventListener("pointermove", (event) => this.point(event));
    area.addEventListener("pointerdown", (event) => this.point(event));
    area.addEventListener("pointerleave", () => focused || readAll(null));
    area.addEventListener("focus", () => {
      focused = this.name;
      readAll(this.places[this.here()]?.at ?? null);
    });
    area.addEventListener("blur", () => window.setTimeout(() => this.left()));
    area.addEventListener("keydown", (event) => this.pressed(event));
    this.read(place);
    if (focused === this.name) area.focus({ preventScroll: true });
  }

  /** What was taken away with its part of the page is drawn anew, and has the focus again. */
  private left(): void {
    if (!this.area.isConnected || document.activeElement === this.area || focused !== this.name) return;
    focused = "";
    readAll(null);
  }

  private point(event: PointerEvent): void {
    const box = this.area.getBoundingClientRect();
    const left = (100 * (event.clientX - box.left)) / box.width;
    const away = (one: { left: number }) => Math.abs(one.left - left);
    readAll(this.places.reduce((best, one) => (away(one) < away(best) ? one : best)).at);
  }

  /** Which of the places is read; the last where none is. */
  private here(): number {
    const found = this.places.findIndex(({ at }) => at === place);
    return found < 0 ? this.places.length - 1 : found;
  }

  private pressed(event: KeyboardEvent): void {
    const at = this.here();
    const last = this.places.length - 1;
    const moved: Record<string, number> = {
      ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - 10, PageUp: at + 10, Home: 0, End: last,
    };
    const next = moved[event.key];
    if (event.key === "Escape") readAll(null);
    if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    readAll(this.places[Math.max(0, Math.min(last, next))]?.at ?? null);
  }

  /** Show what there is at an epoch or a day, or nothing; a chart that has nothing there shows nothing. */
  read(wanted: string | null): void {
    this.marks.splice(0).forEach((mark) => mark.remove());
    this.told.remove();
    this.cursor.remove();
    const found = this.runs.flatMap((run) =>
      run.readings.filter(([, , at]) => at === wanted).map((one) => ({ run, one })),
    );
    const first = found[0];
    this.area.setAttribute("aria-valuenow", String(this.here() + 1));
    if (!first) return this.area.removeAttribute("aria-valuetext");
    const left = first.one[0];
    this.cursor.setAttribute("x1", `${left}%`);
    this.cursor.setAttribute("x2", `${left}%`);
    this.drawing.append(this.cursor);
    this.told.replaceChildren(line(first.one[2], "", "at"));
    for (const { run, one } of found) {
      this.drawing.append(this.mark(run.colour, one));
      this.told.append(line(one[3], this.runs.length > 1 ? run.name : "", run.colour));
    }
    this.area.append(this.told);
    this.beside((left / 100) * this.area.clientWidth);
    const values = found.map(({ run, one }) => (this.runs.length > 1 ? `${run.name} ${one[3]}` : one[3]));
    this.area.setAttribute("aria-valuetext", `${first.one[2]}: ${values.join(", ")}`);
  }

  /** On the side that has room, and never beyond the chart. */
  private beside(x: number): void {
    const wide = this.area.clientWidth;
    const own = this.told.offsetWidth;
    const wanted = x > wide / 2 ? x - GAP - own : x + GAP;
    this.told.style.left = `${Math.max(0, Math.min(wide - own, wanted))}px`;
  }

  private mark(colour: string, [left, top]: Reading): SVGCircleElement {
    const mark = document.createElementNS(SVG, "circle");
    mark.setAttribute("class", `mark ${colour}`);
    mark.setAttribute("cx", `${left}%`);
    mark.setAttribute("cy", `${top}%`);
    mark.setAttribute("r", "4");
    this.marks.push(mark);
    return mark;
  }
}

function line(value: string, name: string, colour: string): HTMLElement {
  const row = document.createElement("div");
  row.className = colour;
  if (name) row.append(Object.assign(document.createElement("span"), { textContent: name }));
  row.append(Object.assign(document.createElement("strong"), { textContent: value }));
  return row;
}

let plots: { root: HTMLElement; plot: Plot }[] = [];

/** Charts of a page have the same axis: what is read in one is read in all. */
function readAll(at: string | null): void {
  place = at;
  plots.forEach(({ plot }) => plot.read(at));
}

/** The charts that are chosen stand in the address, which can be passed on. */
function followChoice(root: ParentNode): void {
  const form = find<HTMLFormElement>("#curve-controls", root);
  form?.addEventListener("input", () => {
    const chosen = [...new FormData(form)].map(([name, value]) => [name, String(value)]);
    history.replaceState(null, "", `?${new URLSearchParams(chosen)}`);
  });
}

export function startPlots(root: ParentNode): void {
  followChoice(root);
  plots = plots.filter(({ root: one }) => one.isConnected);
  for (const one of all<HTMLElement>("[data-plot]", root)) {
    if (started.has(one)) continue;
    started.add(one);
    const plot = new Plot(one);
    plots.push({ root: one, plot });
    plot.start();
  }
}
