// The selection: how many, which, and what can be done with them.
import { find, need } from "../dom";
import { nt, shown, t } from "../words";
import { namesOf, post, thumb } from "./assets";
import type { Model } from "./model";

const THUMBS = 60;
const EXAMPLES = 20;

interface Tagged {
  changed: number;
  tags: Record<string, string[]>;
  refused: number;
  left: number;
  why: string;
}

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
    this.startTagging();
    this.startGolden();
  }

  ids(): string[] {
    const model = this.model();
    return model ? [...model.chosen].map((place) => model.idOf(place)) : [];
  }

  set(places: Iterable<number>, add = false): void {
    const model = this.model();
    if (!model) return;
    const chosen = add ? model.chosen : new Set<number>();
    for (const place of places) chosen.add(place);
    model.chosen = chosen;
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
    const model = this.model();
    const count = model?.chosen.size ?? 0;
    need("[data-count]", this.root).textContent = shown(count);
    this.enable("[data-clear], [data-export]", count > 0);
    this.enable("[data-delete-open]", this.fits(count, "mostDeleted"));
    this.enable("[data-tag-form] button", this.fits(count, "mostTagged"));
    this.enable("[data-golden-form] button", this.fits(count, "mostAnswers"));
    this.enable("[data-compare]", count > 1 && count <= Number(this.root.dataset.mostCompared));
    const first: string[] = [];
    for (const place of model?.chosen ?? []) {
      if (first.length === THUMBS) break;
      first.push(model?.idOf(place) ?? "");
    }
    this.link(count <= EXAMPLES ? first : []);
    void this.thumbs(first.filter(Boolean));
  }

  private fits(count: number, bound: string): boolean {
    return count > 0 && count <= Number(this.root.dataset[bound]);
  }

  private startTagging(): void {
    const form = find<HTMLFormElement>("[data-tag-form]", this.root);
    form?.addEventListener("submit", (event) => {
      event.preventDefault();
      const typed = need<HTMLInputElement>("input", form).value;
      const name = (event.submitter as HTMLButtonElement | null)?.value === "remove" ? "remove" : "add";
      void this.tag(this.ids(), name, typed);
    });
  }

  private async tag(ids: string[], name: "add" | "remove", typed: string): Promise<void> {
    const said = need<HTMLElement>("[data-tag-told]", this.root);
    try {
      const done = await post<Tagged>(this.root.dataset.tag ?? "", { ids, [name]: typed });
      const parts = [nt("{count} asset was changed.", "{count} assets were changed.", done.changed)];
      if (done.refused) parts.push(nt("{count} asset was left as it is: {why}", "{count} assets were left as they are: {why}", done.refused, { why: done.why }));
      if (done.left) parts.push(nt("There was no time for {count} asset; try again.", "There was no time for {count} assets; try again.", done.left));
      said.replaceChildren(parts.join(" "));
      if (done.changed) said.append(" ", this.undo(name, done.tags));
    } catch (error) {
      said.textContent = error instanceof Error ? error.message : t("Try again.");
    }
  }

  /** Of each tag those that got or lost it, and no others. */
  private undo(name: "add" | "remove", tags: Record<string, string[]>): HTMLButtonElement {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-quiet btn-sm";
    button.textContent = t("Undo");
    button.addEventListener("click", async () => {
      button.disabled = true;
      const said = need<HTMLElement>("[data-tag-told]", this.root);
      try {
        for (const [tag, ids] of Object.entries(tags))
          await post(this.root.dataset.tag ?? "", { ids, [name === "add" ? "remove" : "add"]: tag });
        said.textContent = t("Undone.");
      } catch (error) {
        said.textContent = error instanceof Error ? error.message : t("Try again.");
      }
    });
    return button;
  }

  private startGolden(): void {
    const form = find<HTMLFormElement>("[data-golden-form]", this.root);
    form?.addEventListener("submit", async (event) => {
      event.preventDefault();
      const said = need<HTMLElement>("[data-golden-told]", this.root);
      try {
        const text = need<HTMLInputElement>("input", form).value;
        const { url } = await post<{ url: string }>(this.root.dataset.golden ?? "", { ids: this.ids(), text });
        const link = document.createElement("a");
        link.href = url;
        link.textContent = t("The golden query was added.");
        said.replaceChildren(link);
        form.reset();
      } catch (error) {
        said.textContent = error instanceof Error ? error.message : t("Try again.");
      }
    });
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
