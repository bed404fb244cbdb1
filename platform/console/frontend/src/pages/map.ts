// The embedding map: fetches the points and lets the parts around the plot know of each other.
import { find, need } from "../dom";
import { namesOf, read, thumb } from "../map/assets";
import { showLegend } from "../map/legend";
import { showMatrix } from "../map/matrix";
import { type Answer, Model } from "../map/model";
import { onColoursChange } from "../map/palette";
import { Plot } from "../map/plot";
import { Pointer, startTools } from "../map/pointer";
import { Selection } from "../map/selection";
import { Table } from "../map/table";
import { nt, t } from "../words";

const HOVER_MS = 80;

class Page {
  private model: Model | null = null;
  private plot: Plot;
  private selection: Selection;
  private table: Table;
  private hovered = -1;
  private colour: HTMLSelectElement;

  constructor(private root: HTMLElement) {
    this.colour = need<HTMLSelectElement>("[data-colour]", root);
    const box = need<HTMLElement>("[data-plot]", root);
    const canvas = document.createElement("canvas");
    canvas.className = "map-canvas";
    need("[data-canvas]", root).replaceWith(canvas);
    this.plot = new Plot(canvas, box, () => this.drawn());
    const open = (place: number) => void this.open(place);
    const pointer = new Pointer(this.plot, box, need("[data-drawn]", root), {
      hover: (place, px, py) => this.hover(place, px, py),
      open,
      choose: (places, add) => this.selection.set(places, add),
    });
    this.selection = new Selection(root, () => this.model, {
      changed: () => this.redraw(),
      compare: (ids) => void showMatrix(root, ids),
      gone: () => void this.load(),
    });
    this.table = new Table(root, () => this.model, () => this.colour.value, (place, on) => this.selection.toggle(place, on));
    startTools(root, pointer);
    this.startControls();
    void this.load();
  }

  private startControls(): void {
    this.colour.addEventListener("change", () => void this.recolour());
    for (const button of this.root.querySelectorAll<HTMLButtonElement>("[data-zoom]"))
      button.addEventListener("click", () => this.plot.zoom(Number(button.dataset.zoom)));
    need("[data-reset]", this.root).addEventListener("click", () => this.plot.reset());
    find<HTMLInputElement>("[data-between]", this.root)?.addEventListener("input", (event) => {
      this.model?.between(Number((event.target as HTMLInputElement).value) / 100);
      this.plot.redraw();
    });
    find<HTMLFormElement>("[data-find]", this.root)?.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.find(need<HTMLInputElement>("#map-find", this.root).value.trim());
    });
    onColoursChange(() => this.colourAgain());
  }

  private async load(): Promise<void> {
    this.say(t("Placing the points…"));
    const key = this.colour.value.startsWith("field:") ? `&key=${encodeURIComponent(this.colour.value.slice(6))}` : "";
    try {
      const answer = await read<Answer>(await fetch(`${this.root.dataset.points}${key}`, { headers: { "HX-Request": "true" } }));
      const names = JSON.parse(need("#map-datasets").textContent ?? "{}");
      const chosen = this.selection.ids();
      this.model = new Model(answer, names);
      this.model.between(Number(find<HTMLInputElement>("[data-between]", this.root)?.value ?? 0) / 100);
      this.selection.set(chosen.flatMap((id) => this.model?.places.get(id) ?? []));
      this.colourAgain();
      this.about(answer);
    } catch (error) {
      this.say(error instanceof Error ? error.message : t("Try again."));
    }
  }

  private about(answer: Answer): void {
    const count = answer.ids.length;
    this.say(count ? "" : t("There is nothing to show: no asset that fits has vectors yet."));
    const parts = [nt("{count} point", "{count} points", count)];
    if (answer.total > count)
      parts.push(t("a sample of {total} assets, or some without vectors", { total: answer.total }));
    if (answer.details.kept_neighbours !== undefined)
      parts.push(t("of ten nearest assets {share} % are near here, too", { share: Math.round(answer.details.kept_neighbours * 100) }));
    if (answer.details.explained)
      parts.push(t("the two directions hold {share} % of the variance", {
        share: Math.round(answer.details.explained.reduce((a, b) => a + b, 0) * 100),
      }));
    need("[data-about]", this.root).textContent = `${answer.method.toUpperCase()} · ${parts.join(" · ")}`;
    if (answer.most_moved) void this.moved(answer);
  }

  private async moved(answer: Answer): Promise<void> {
    const ids = answer.most_moved ?? [];
    const names = await namesOf(this.root.dataset.names ?? "", ids);
    const list = find("[data-moved]", this.root);
    list?.replaceChildren(...ids.flatMap((id) => names.get(id) ?? []).map(thumb));
  }

  private async recolour(): Promise<void> {
    if (this.colour.value.startsWith("field:")) await this.load();
    else this.colourAgain();
  }

  private colourAgain(): void {
    if (!this.model) return;
    this.model.colourBy(this.colour.value);
    need("[data-column]", this.root).textContent = this.colour.selectedOptions[0]?.textContent ?? "";
    showLegend(this.root, this.model, () => this.redraw(true));
    this.plot.show(this.model.scene);
    this.redraw(true);
  }

  private redraw(filtered = false): void {
    if (!this.model) return;
    this.model.refresh();
    this.plot.redraw();
    if (filtered) this.table.restart();
    else void this.table.show();
  }

  private drawn(): void {
    this.root.dataset.drawn = String(Number(this.root.dataset.drawn ?? 0) + 1);
  }

  private async find(words: string): Promise<void> {
    if (!this.model) return;
    this.model.found = new Set();
    if (words) {
      try {
        const url = `${this.root.dataset.matches}?q=${encodeURIComponent(words)}`;
        const { ids } = await read<{ ids: string[] }>(await fetch(url, { headers: { "HX-Request": "true" } }));
        this.model.found = new Set(ids.flatMap((id) => this.model?.places.get(id) ?? []));
        need("[data-about]", this.root).textContent = nt("{count} of the points is ringed.", "{count} of the points are ringed.", this.model.found.size);
      } catch (error) {
        need("[data-about]", this.root).textContent = error instanceof Error ? error.message : t("Try again.");
      }
    }
    this.redraw();
  }

  private hover(place: number, px: number, py: number): void {
    const card = need<HTMLElement>("[data-hover]", this.root);
    if (place < 0) {
      this.hovered = -1;
      card.hidden = true;
      return;
    }
    // Moved by script: the policy refuses style attributes, not what a script sets.
    card.style.transform = `translate(${Math.min(px + 14, (card.parentElement?.clientWidth ?? 0) - 180)}px, ${py + 14}px)`;
    if (place === this.hovered) return;
    this.hovered = place;
    card.hidden = true;
    setTimeout(() => void this.name(place, card), HOVER_MS);
  }

  private async name(place: number, card: HTMLElement): Promise<void> {
    const id = this.model?.answer.ids[place];
    if (place !== this.hovered || !id) return;
    const named = (await namesOf(this.root.dataset.names ?? "", [id]).catch(() => new Map())).get(id);
    if (place !== this.hovered || !named) return;
    const picture = need<HTMLImageElement>("img", card);
    picture.hidden = !named.picture;
    if (named.picture) picture.src = named.picture;
    need("span", card).textContent = named.name;
    card.hidden = false;
  }

  private async open(place: number): Promise<void> {
    const id = this.model?.answer.ids[place];
    const named = id && (await namesOf(this.root.dataset.names ?? "", [id])).get(id);
    if (named) window.location.assign(named.url);
  }

  private say(words: string): void {
    need("[data-state]", this.root).textContent = words;
  }
}

const root = find<HTMLElement>("#map");
if (root) new Page(root);
