// The embedding map: fetches the points and lets the parts around the plot know of each other.
import { find, need } from "../dom";
import { namesOf, read, remember, thumb } from "../map/assets";
import { Card } from "../map/card";
import { showLegend } from "../map/legend";
import { showMatrix } from "../map/matrix";
import { type Answer, Model } from "../map/model";
import { onColoursChange } from "../map/palette";
import { receive } from "../map/packed";
import { Plot } from "../map/plot";
import { Pointer, startTools } from "../map/pointer";
import { Selection } from "../map/selection";
import { Table } from "../map/table";
import { type Found, labelsOf, showFound, showOutliers, showTopics } from "../map/topics";
import { nt, t } from "../words";

class Page {
  private model: Model | null = null;
  private plot: Plot;
  private selection: Selection;
  private table: Table;
  private card: Card;
  private colour: HTMLSelectElement;

  constructor(private root: HTMLElement) {
    this.colour = need<HTMLSelectElement>("[data-colour]", root);
    const box = need<HTMLElement>("[data-plot]", root);
    const canvas = document.createElement("canvas");
    canvas.className = "map-canvas";
    need("[data-canvas]", root).replaceWith(canvas);
    this.plot = new Plot(canvas, box, () => this.drawn());
    this.card = new Card(root, this.plot, () => this.model);
    const card = this.card;
    const open = (place: number) => void this.open(place);
    const pointer = new Pointer(this.plot, box, need("[data-drawn]", root), {
      hover: (place, px, py) => card.hover(place, px, py),
      open,
      tell: (place) => card.tell(place),
      step: (by) => card.step(by),
      openTold: () => card.open(),
      leave: () => card.hide(),
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
      this.model?.placeTopics();
      this.label();
    });
    for (const name of ["labels", "mark-outliers"]) {
      find(`[data-${name}]`, this.root)?.addEventListener("change", () => this.redraw());
    }
    find("[data-choose-outliers]", this.root)?.addEventListener("click", () => this.selection.set(this.model?.outliers() ?? []));
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
      const asked = await fetch(`${this.root.dataset.points}${key}&packed=1`, { headers: { "HX-Request": "true" } });
      const { answer, ids } = await receive(asked);
      const names = JSON.parse(need("#map-datasets").textContent ?? "{}");
      const chosen = this.selection.ids();
      const model = new Model(answer, names);
      this.model = model;
      this.model.between(Number(find<HTMLInputElement>("[data-between]", this.root)?.value ?? 0) / 100);
      this.offer(answer);
      this.colourAgain();
      this.about(answer);
      // Drawn already: the ids are for what is done with points.
      model.identify(await ids);
      this.selection.set(chosen.flatMap((id) => model.placeOf(id) ?? []));
      this.root.dataset.ready = "yes";
      void this.nameTopics(answer);
    } catch (error) {
      this.say(error instanceof Error ? error.message : t("Try again."));
    }
  }

  /** Colours by what this map has. */
  private offer(answer: Answer): void {
    for (const option of this.colour.options) {
      if (option.value === "topic" || option.value === "outlier") option.hidden = option.disabled = !answer.columns[option.value];
    }
    if (this.colour.selectedOptions[0]?.disabled) this.colour.value = "modality";
  }

  private async nameTopics(answer: Answer): Promise<void> {
    const model = this.model;
    if (!model) return;
    const acts = {
      choose: (places: number[]) => this.selection.set(places),
      tell: (place: number) => {
        this.plot.showPlaces([place]);
        this.card.tell(place);
      },
      redraw: () => this.redraw(),
    };
    showTopics(this.root, model, this.plot, acts);
    void showOutliers(this.root, model, acts);
    if (!model.hasTopics) return;
    const url = this.root.dataset.topics ?? "";
    const told = await read<{ stamp: string; topics: { topic: number; words: string[]; guessed: boolean }[] }>(
      await fetch(url, { headers: { "HX-Request": "true" } }),
    ).catch(() => ({ stamp: "", topics: [] }));
    if (model !== this.model) return;
    // Assets came in between: these are the names of other topics.
    model.nameTopics(told.stamp === answer.stamp ? told.topics : []);
    showTopics(this.root, model, this.plot, acts);
    if (this.colour.value === "topic") this.colourAgain();
    else this.redraw();
  }

  private label(): void {
    if (!this.model) return;
    const wanted = find<HTMLInputElement>("[data-labels]", this.root)?.checked ?? true;
    this.plot.label(labelsOf(this.model, wanted));
  }

  private about(answer: Answer): void {
    const count = answer.count;
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
    this.model.markOutliers = find<HTMLInputElement>("[data-mark-outliers]", this.root)?.checked ?? false;
    this.model.refresh();
    if (filtered) this.model.placeTopics();
    this.label();
    if (filtered) this.table.restart();
    else void this.table.show();
  }

  private drawn(): void {
    this.root.dataset.drawn = String(Number(this.root.dataset.drawn ?? 0) + 1);
  }

  private async find(words: string): Promise<void> {
    if (!this.model) return;
    this.model.found = new Set();
    let best: Found[] = [];
    if (words) {
      try {
        const url = `${this.root.dataset.matches}?q=${encodeURIComponent(words)}`;
        const found = await read<{ ids: string[]; best: Found[] }>(await fetch(url, { headers: { "HX-Request": "true" } }));
        best = found.best;
        best.forEach((one) => remember(one.id, one));
        this.model.found = new Set(found.ids.flatMap((id) => this.model?.placeOf(id) ?? []));
        need("[data-about]", this.root).textContent = nt("{count} of the points is ringed.", "{count} of the points are ringed.", this.model.found.size);
      } catch (error) {
        need("[data-about]", this.root).textContent = error instanceof Error ? error.message : t("Try again.");
      }
    } else this.about(this.model.answer);
    showFound(this.root, this.model, best, {
      choose: (places) => this.selection.set(places),
      tell: (place) => this.card.tell(place),
      redraw: () => this.redraw(),
    });
    this.redraw();
  }

  private async open(place: number): Promise<void> {
    const id = this.model?.idOf(place);
    const named = id && (await namesOf(this.root.dataset.names ?? "", [id])).get(id);
    if (named) window.location.assign(named.url);
  }

  private say(words: string): void {
    need("[data-state]", this.root).textContent = words;
  }
}

const root = find<HTMLElement>("#map");
if (root) new Page(root);
