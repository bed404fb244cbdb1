// The search form: a picture by drop, paste or pick, a spoken query, and what came back.
import htmx from "htmx.org";
import { find, need, onDrop, setFiles } from "./dom";
import { notice } from "./notices";
import { startRecorder } from "./recorder";

const MAX_BYTES = 50 * 1024 * 1024;

class SearchForm {
  readonly text: HTMLInputElement;
  readonly image: HTMLInputElement;
  readonly asset: HTMLInputElement;
  readonly audio: HTMLInputElement;
  readonly chip: HTMLElement;

  constructor(readonly form: HTMLFormElement) {
    this.text = need("[name=text]", form);
    this.image = need("[name=image]", form);
    this.asset = need("[name=image_asset]", form);
    this.audio = need("[name=audio]", form);
    this.chip = need("[data-chip]", form);
  }

  listen(): void {
    this.image.addEventListener("change", () => this.takePicture(this.image.files?.[0]));
    this.text.addEventListener("input", () => this.showParts());
    need("[data-clear-picture]", this.form).addEventListener("click", () => this.clearPicture());
    need("[data-pick]", this.form).addEventListener("click", () => this.image.click());
    onDrop(document.body, (files) => this.dropped(files));
    document.addEventListener("paste", (event) => this.pasted(event));
    this.form.addEventListener("htmx:afterRequest", () => setFiles(this.audio, []));
    startRecorder(need("[data-mic]", this.form), (file) => this.spoken(file));
    document.body.addEventListener("htmx:afterSwap", () => this.answered());
    this.showParts();
  }

  private dropped(files: File[]): void {
    const picture = files.find((file) => file.type.startsWith("image/"));
    if (!picture) return notice("Drop a picture: JPEG, PNG, WebP, GIF or AVIF.");
    setFiles(this.image, [picture]);
    this.takePicture(picture);
  }

  private pasted(event: ClipboardEvent): void {
    const picture = [...(event.clipboardData?.files ?? [])].find((file) => file.type.startsWith("image/"));
    if (!picture) return;
    event.preventDefault();
    setFiles(this.image, [picture]);
    this.takePicture(picture);
  }

  private takePicture(file: File | undefined): void {
    if (!file) return;
    if (file.size > MAX_BYTES) {
      setFiles(this.image, []);
      return notice("This picture is larger than 50 MiB.");
    }
    this.asset.value = "";
    this.showPicture(URL.createObjectURL(file), file.name || "pasted picture");
    this.submit();
  }

  private showPicture(url: string, name: string): void {
    const preview = need<HTMLImageElement>("img", this.chip);
    if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
    preview.src = url;
    need("[data-name]", this.chip).textContent = name;
    this.chip.hidden = false;
    this.showParts();
  }

  private clearPicture(): void {
    setFiles(this.image, []);
    this.asset.value = "";
    this.chip.hidden = true;
    this.showParts();
    this.text.focus();
  }

  private spoken(file: File): void {
    setFiles(this.audio, [file]);
    this.submit();
  }

  /** Two parts can be weighed against each other; the slider shows only then. */
  private showParts(): void {
    const both = !this.chip.hidden && this.text.value.trim() !== "";
    need<HTMLElement>("[data-balance]", this.form).hidden = !both;
  }

  private submit(): void {
    htmx.trigger(this.form, "submit", {});
  }

  /** A spoken query becomes text in the box, where it can be corrected and sent again. */
  private answered(): void {
    const heard = find<HTMLElement>("#results [data-transcript]");
    if (heard) {
      const words = heard.dataset.transcript ?? "";
      delete heard.dataset.transcript;
      heard.removeAttribute("data-transcript");
      this.text.value = [this.text.value.trim(), words].filter(Boolean).join(" ");
      this.showParts();
      this.text.focus();
    }
    this.remember();
  }

  /** A search by text alone can be linked to and comes back with the back button. */
  private remember(): void {
    const words = this.text.value.trim();
    const plain = words && this.chip.hidden && !find("#refinements input");
    history.replaceState(null, "", plain ? `/search?q=${encodeURIComponent(words)}` : window.location.pathname);
  }
}

export function startSearch(): void {
  const form = find<HTMLFormElement>("#search-form");
  if (form) new SearchForm(form).listen();
}
