// The selection: how many, which, and what can be done with them.
import { find, need } from "../dom";
import { nt, shown, t } from "../words";
import { namesOf, post, thumb } from "./assets";
import type { Model } from "./model";

const THUMBS = 60;
const EXAMPLES = 20;

export interface Done {
  changed(): void;
  compare(ids: string[]): void;
  gone(): void;
}

export class Selection {
  private asked = 0;

  constructor(private root: HTMLElement, private model: () => Model | null, private done: Done) {
    this.on("[data-clear]", () => this.set([]));
    this.on("[data-select-shown]", () => this.set(this.model()?.shownPlaces() ?? []));
    this.on("[data-export]", () => this.save());
    this.on("[data-compare]", () => done.compare(this.ids()));
    this.startDeleting();
  }

  ids(): string[] {
    const model = this.model();
    return model ? [...model.chosen].map((place) => model.answer.ids[place] ?? "") : [];
  }

  set(places: Iterable<number>, add = false): void {
    const model = this.model();
    if (!model) return;
    model.chosen = new Set([...(add ? model.chosen : []), ...places]);
    this.show();
    this.done.changed();
  }

  toggle(place: number, on: boolean): void {
    const model = this.model();
    if (!model) return;
    if (on) model.chosen.add(place);
    else model.chosen.delete(place);
    this.show();
    this.done.changed();
  }

  show(): void {
    const ids = this.ids();
    need("[data-count]", this.root).textContent = shown(ids.length);
    this.enable("[data-clear], [data-export]", ids.length > 0);
    this.enable("[data-delete-open]", ids.length > 0 && ids.length <= Number(this.root.dataset.mostDeleted));
    this.enable("[data-compare]", ids.length > 1 && ids.length <= Number(this.root.dataset.mostCompared));
    this.link(ids);
    void this.thumbs(ids.slice(0, THUMBS));
  }

  private on(selector: string, act: () => void): void {
    find<HTMLButtonElement>(selector, this.root)?.addEventListener("click", act);
  }

  private enable(selector: string, on: boolean): void {
    for (const button of this.root.querySelectorAll<HTMLButtonElement>(selector)) button.disabled = !on;
  }

  private link(ids: string[]): void {
    const link = find<HTMLAnchorElement>("[data-like]", this.root);
    if (!link) return;
    const usable = ids.length > 0 && ids.length <= EXAMPLES;
    link.classList.toggle("disabled", !usable);
    link.setAttribute("aria-disabled", String(!usable));
    const query = usable ? `?${ids.map((id) => `like=${id}`).join("&")}` : "";
    link.href = `${this.root.dataset.search}${query}`;
  }

  private async thumbs(ids: string[]): Promise<void> {
    const asked = ++this.asked;
    const list = need("[data-thumbs]", this.root);
    const names = await namesOf(this.root.dataset.names ?? "", ids).catch(() => new Map());
    if (asked !== this.asked) return;
    list.replaceChildren(...ids.flatMap((id) => names.get(id) ?? []).map(thumb));
  }

  private save(): void {
    const body = new Blob([`id\r\n${this.ids().join("\r\n")}\r\n`], { type: "text/csv" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(body);
    link.download = "assets.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  private startDeleting(): void {
    const dialog = find<HTMLDialogElement>("[data-delete-dialog]", this.root);
    if (!dialog) return;
    this.on("[data-delete-open]", () => {
      need("[data-delete-told]", dialog).textContent = nt(
        "{count} asset is deleted for good, with its files and vectors.",
        "{count} assets are deleted for good, with their files and vectors.",
        this.ids().length,
      );
      dialog.showModal();
    });
    need("[data-delete-cancel]", dialog).addEventListener("click", () => dialog.close());
    need<HTMLButtonElement>("[data-delete-go]", dialog).addEventListener("click", () => void this.remove(dialog));
  }

  private async remove(dialog: HTMLDialogElement): Promise<void> {
    try {
      await post(this.root.dataset.delete ?? "", this.ids());
      dialog.close();
      this.set([]);
      this.done.gone();
    } catch (error) {
      need("[data-delete-told]", dialog).textContent = error instanceof Error ? error.message : t("Try again.");
    }
  }
}
