// The same points as a table, a page at a time: for the keyboard, for screen readers, and for who wants to read.
import { need } from "../dom";
import { t } from "../words";
import { namesOf } from "./assets";
import type { Model } from "./model";

const PAGE = 25;

export class Table {
  private first = 0;
  private asked = 0;

  constructor(
    private root: HTMLElement,
    private model: () => Model | null,
    private column: () => string,
    private tick: (place: number, on: boolean) => void,
  ) {
    need("[data-back]", root).addEventListener("click", () => this.turn(-PAGE));
    need("[data-next]", root).addEventListener("click", () => this.turn(PAGE));
    need<HTMLDetailsElement>("[data-table]", root).addEventListener("toggle", () => void this.show());
  }

  restart(): void {
    this.first = 0;
    void this.show();
  }

  async show(): Promise<void> {
    const model = this.model();
    if (!model || !need<HTMLDetailsElement>("[data-table]", this.root).open) return;
    const asked = ++this.asked;
    const places = model.shownPlaces();
    const page = places.slice(this.first, this.first + PAGE);
    const ids = page.map((place) => model.idOf(place)).filter(Boolean);
    const names = await namesOf(this.root.dataset.names ?? "", ids).catch(() => new Map());
    if (asked !== this.asked) return;
    need("[data-rows]", this.root).replaceChildren(...page.map((place) => this.row(model, place, names)));
    const last = Math.min(this.first + PAGE, places.length);
    need("[data-place]", this.root).textContent = t("{from} to {to} of {all}", {
      from: places.length ? this.first + 1 : 0, to: last, all: places.length,
    });
    need<HTMLButtonElement>("[data-back]", this.root).disabled = this.first === 0;
    need<HTMLButtonElement>("[data-next]", this.root).disabled = last >= places.length;
  }

  private turn(by: number): void {
    this.first = Math.max(0, this.first + by);
    void this.show();
  }

  private row(model: Model, place: number, names: Map<string, { name: string; url: string } | null>): HTMLTableRowElement {
    const id = model.idOf(place);
    const named = names.get(id);
    const row = document.createElement("tr");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.className = "form-check-input";
    box.checked = model.chosen.has(place);
    box.setAttribute("aria-label", t("Select {name}", { name: named?.name ?? id }));
    box.addEventListener("change", () => this.tick(place, box.checked));
    const link = document.createElement("a");
    link.href = named?.url ?? "#";
    link.textContent = named?.name ?? id;
    const told = ["modality", "dataset", this.column()].map((name) => model.valueOf(name, place));
    for (const content of [box, link, ...told]) {
      const cell = document.createElement("td");
      cell.append(content);
      row.append(cell);
    }
    return row;
  }
}

