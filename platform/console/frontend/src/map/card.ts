// The card of a point: its picture or first words, its name and kind; under the pointer, after a touch, or by key.
import { need } from "../dom";
import { codeName, t } from "../words";
import { type Named, namesOf } from "./assets";
import type { Model } from "./model";
import type { Plot } from "./plot";

const HOVER_MS = 80;
// What the keyboard steps through from the middle of the plot.
const STEPS = 200;
const WIDTH = 236;
const HEIGHT = 190;

export class Card {
  private place = -1;
  private stepped: number[] = [];
  private at = -1;
  private told: Named | null = null;
  private box: HTMLElement;

  constructor(private root: HTMLElement, private plot: Plot, private model: () => Model | null) {
    this.box = need<HTMLElement>("[data-hover]", root);
  }

  /** Under the pointer; -1 for nothing. */
  hover(place: number, px: number, py: number): void {
    if (place < 0) return this.hide();
    this.move(px, py);
    if (place === this.place) return;
    this.hide();
    this.place = place;
    setTimeout(() => void this.fill(place), HOVER_MS);
  }

  /** At the point itself; -1 for nothing. */
  tell(place: number): void {
    this.hide();
    if (place < 0) return;
    this.place = place;
    this.plot.pointed = place;
    this.plot.redraw();
    this.move(...this.plot.pixelOf(place));
    void this.fill(place);
  }

  /** The next point from the middle outwards. */
  step(by: number): void {
    if (this.at < 0 || !this.stepped.includes(this.place)) {
      this.stepped = this.plot.around(STEPS);
      this.at = by > 0 ? -1 : 0;
    }
    if (!this.stepped.length) return;
    const at = (this.at + by + this.stepped.length) % this.stepped.length;
    this.tell(this.stepped[at] ?? -1);
    this.at = at;
  }

  /** Whether there was a card to open. */
  open(): boolean {
    if (this.told) window.location.assign(this.told.url);
    return this.told !== null;
  }

  hide(): void {
    this.place = -1;
    this.at = -1;
    this.told = null;
    this.box.hidden = true;
    if (this.plot.pointed < 0) return;
    this.plot.pointed = -1;
    this.plot.redraw();
  }

  private move(px: number, py: number): void {
    const width = this.box.parentElement?.clientWidth ?? 0;
    const height = this.box.parentElement?.clientHeight ?? 0;
    const x = Math.max(0, Math.min(px + 14, width - WIDTH));
    const y = py + HEIGHT > height ? Math.max(0, py - HEIGHT) : py + 14;
    // Moved by script: the policy refuses style attributes, not what a script sets.
    this.box.style.transform = `translate(${x}px, ${y}px)`;
  }

  private async fill(place: number): Promise<void> {
    const model = this.model();
    const id = model?.idOf(place);
    if (place !== this.place || !model || !id) return;
    const named = (await namesOf(this.root.dataset.names ?? "", [id]).catch(() => new Map<string, Named>())).get(id);
    if (place !== this.place || !named) return;
    this.told = named;
    const picture = need<HTMLImageElement>("img", this.box);
    picture.hidden = !named.picture;
    if (named.picture) picture.src = named.picture;
    const link = need<HTMLAnchorElement>("a", this.box);
    link.textContent = named.name;
    link.href = named.url;
    const words = need<HTMLElement>("[data-hover-words]", this.box);
    words.textContent = named.words && named.words !== named.name ? named.words : "";
    need("[data-hover-kind]", this.box).textContent = this.facts(model, place, named).join(" · ");
    this.box.hidden = false;
  }

  private facts(model: Model, place: number, named: Named): string[] {
    const match = model.best.get(place);
    const topic = model.topics.find((one) => one.topic === model.answer.columns.topic?.codes?.[place]);
    return [
      codeName(named.modality),
      ...(topic ? [topic.name] : []),
      ...(model.answer.columns.outlier?.codes?.[place] === 0 ? [t("Outlier")] : []),
      ...(match ? [t("result {rank}", { rank: match.rank })] : []),
    ];
  }
}
