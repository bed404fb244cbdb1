// The search form: a picture by drop, paste or pick, a spoken query, and what came back.
import htmx from "htmx.org";
import { all, csrfToken, find, need, onDrop, setFiles } from "./dom";
import { startKeeping } from "./keeping";
import { forgetFlashes, notice } from "./notices";
import { startMomentPlayer } from "./play";
import { startRecorder } from "./recorder";
import { startShortcuts } from "./shortcuts";
import { t } from "./words";

const MAX_BYTES = 50 * 1024 * 1024;
const FACETS = "[data-facets]";
const ADDRESS = "#results [data-address]";
const TILE = "#results .tile > a, #results .hit .named";
// As in _narrow.scss.
const NARROW = window.matchMedia("(max-width: 720px)");

function place(): string {
  return window.location.pathname + window.location.search;
}

/** Some systems know no media type for HEIC. */
function isPicture(file: File): boolean {
  return file.type.startsWith("image/") || /\.hei[cf]$/i.test(file.name);
}

class SearchForm {
  readonly text: HTMLInputElement;
  readonly image: HTMLInputElement;
  readonly asset: HTMLInputElement;
  /** The id under which the picture is kept once it was searched by, so that it is not sent again. */
  readonly file: HTMLInputElement;
  readonly audio: HTMLInputElement;
  readonly chip: HTMLElement;
  /** The search that is shown, as an address; "" for one that has none. */
  private address = find<HTMLElement>(ADDRESS)?.dataset.address ?? "";
  private here = place();
  private shown = 0;
  private picture: File | undefined;
  private narrowing = false;

  constructor(readonly form: HTMLFormElement) {
    this.text = need("[name=text]", form);
    this.image = need("[name=image]", form);
    this.asset = need("[name=image_asset]", form);
    this.file = need("[name=file]", form);
    this.audio = need("[name=audio]", form);
    this.chip = need("[data-chip]", form);
  }

  listen(): void {
    this.image.addEventListener("change", () => this.takePicture(this.image.files?.[0]));
    this.form.addEventListener("input", (event) => this.moved(event.target as Element));
    this.form.addEventListener("change", (event) => this.weighed(event.target as Element));
    // It stands beside the results, and belongs to the form.
    document.addEventListener("change", (event) => {
      if ((event.target as Element).matches("[data-resort]")) this.submit();
    });
    startKeeping(
      () => this.picture,
      (id) => this.kept(id),
    );
    need("[data-clear-picture]", this.form).addEventListener("click", () => this.clearPicture());
    need("[data-pick]", this.form).addEventListener("click", () => this.image.click());
    onDrop(document.body, (files) => this.dropped(files));
    document.addEventListener("paste", (event) => this.pasted(event));
    this.form.addEventListener("htmx:afterRequest", () => setFiles(this.audio, []));
    startRecorder(need("[data-mic]", this.form), (file) => this.spoken(file));
    document.body.addEventListener("htmx:beforeSwap", () => this.beforeAnswer());
    document.body.addEventListener("htmx:afterSwap", () => this.answered());
    window.addEventListener("popstate", () => this.wentBack());
    this.foldFacets();
    this.remember();
  }

  private dropped(files: File[]): void {
    const picture = files.find(isPicture);
    if (!picture) return notice(t("Drop a picture: JPEG, PNG, WebP, GIF, AVIF or HEIC."));
    setFiles(this.image, [picture]);
    this.takePicture(picture);
  }

  private pasted(event: ClipboardEvent): void {
    const picture = [...(event.clipboardData?.files ?? [])].find(isPicture);
    if (!picture) return;
    event.preventDefault();
    setFiles(this.image, [picture]);
    this.takePicture(picture);
  }

  private takePicture(file: File | undefined): void {
    if (!file) return;
    if (file.size > MAX_BYTES) {
      setFiles(this.image, []);
      return notice(t("This picture is larger than 50 MiB."));
    }
    this.asset.value = this.file.value = "";
    this.picture = file;
    this.showPicture(URL.createObjectURL(file), file.name || t("pasted picture"));
    this.submit();
  }

  private showPicture(url: string, name: string): void {
    const preview = need<HTMLImageElement>("img", this.chip);
    if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
    preview.hidden = false;
    preview.onerror = () => (preview.hidden = true); // most browsers cannot show HEIC
    preview.src = url;
    need("[data-name]", this.chip).textContent = name;
    this.chip.hidden = false;
  }

  private clearPicture(): void {
    setFiles(this.image, []);
    this.asset.value = this.file.value = "";
    this.picture = undefined;
    this.chip.hidden = true;
    this.text.focus();
  }

  private spoken(file: File): void {
    setFiles(this.audio, [file]);
    this.submit();
  }

  /** A slider that is moved says what it is at, and that these weights are to be used. */
  private moved(slider: Element): void {
    if (!(slider instanceof HTMLInputElement) || slider.type !== "range") return;
    need(`output[for="${slider.id}"]`, this.form).textContent = `${slider.value} %`;
    need<HTMLInputElement>("#weigh-own", this.form).checked = true;
  }

  private weighed(changed: Element): void {
    if (changed instanceof HTMLInputElement && (changed.type === "range" || changed.id === "weigh-own")) this.submit();
  }

  /** The picture is an asset now: the same search, with a link. */
  private kept(id: string): void {
    setFiles(this.image, []);
    this.file.value = "";
    this.asset.value = id;
    this.submit();
  }

  private submit(): void {
    htmx.trigger(this.form, "submit", {});
  }

  /** A spoken query becomes text in the box, where it can be corrected and sent again. */
  private answered(): void {
    forgetFlashes();
    const heard = find<HTMLElement>("#results [data-transcript]");
    if (heard) {
      const words = heard.dataset.transcript ?? "";
      delete heard.dataset.transcript;
      heard.removeAttribute("data-transcript");
      this.text.value = [this.text.value.trim(), words].filter(Boolean).join(" ");
      this.text.focus();
    }
    this.wasKept();
    this.foldFacets();
    this.keepFocus();
    this.remember();
  }

  /** It is not sent again; whoever sent it can make an asset of it. */
  private wasKept(): void {
    for (const offer of all<HTMLElement>("[data-keep]")) offer.hidden = !this.picture;
    const kept = find<HTMLElement>(`${ADDRESS}[data-file]`)?.dataset.file;
    if (!kept || !this.image.files?.length) return;
    this.file.value = kept;
    setFiles(this.image, []);
  }

  private beforeAnswer(): void {
    this.shown = all(TILE).length;
    this.narrowing = find<HTMLDetailsElement>(FACETS)?.open ?? false;
  }

  /** On a phone they would push the results off the screen; who opened them goes on choosing. */
  private foldFacets(): void {
    const facets = find<HTMLDetailsElement>(FACETS);
    if (facets) facets.open = !NARROW.matches || this.narrowing;
  }

  /** What had the focus may be gone: then to the first of the tiles that came, or to the head of new results. */
  private keepFocus(): void {
    if (document.activeElement !== document.body) return;
    const isMore = find<HTMLElement>(ADDRESS)?.dataset.seen !== undefined;
    const next = isMore ? all<HTMLElement>(TILE)[this.shown] : find<HTMLElement>("#results h2, #results .panel");
    (next ?? this.text).focus();
  }

  /** Every search can be linked to and comes back with the back button, but for one that is too long. */
  private remember(): void {
    const answer = find<HTMLElement>(ADDRESS);
    if (!answer || answer.dataset.seen !== undefined) return;
    answer.dataset.seen = "";
    const address = answer.dataset.address ?? "";
    if (address !== this.address) history.pushState(null, "", address || window.location.pathname);
    this.address = address;
    this.here = place();
  }

  /** The server shows what an address means; a mere #fragment changes nothing. */
  private wentBack(): void {
    if (place() !== this.here) window.location.replace(place());
  }
}

/** A menu goes when something else is wanted. */
function closeMenus(event: Event): void {
  const escape = event instanceof KeyboardEvent;
  if (escape && event.key !== "Escape") return;
  for (const menu of all<HTMLDetailsElement>("details[data-menu][open]")) {
    if (!escape && menu.contains(event.target as Node)) continue;
    menu.open = false;
    if (escape) need<HTMLElement>("summary", menu).focus();
  }
}

/** Which result was opened tells which one fitted. Not waited for: the page goes on at once. */
function recordOpened(event: MouseEvent): void {
  const tile = (event.target as Element).closest<HTMLElement>("[data-search] :is(.tile, .hit)");
  const link = (event.target as Element).closest(".tile > a, .hit .named");
  const search = tile?.closest<HTMLElement>("[data-search]")?.dataset.search;
  if (!tile || !link || !search || event.button > 1) return;
  const fields = new FormData();
  fields.set("csrfmiddlewaretoken", csrfToken());
  fields.set("search", search);
  fields.set("asset", tile.id.replace("asset-", ""));
  fields.set("kind", "click");
  navigator.sendBeacon("/search/feedback", fields);
}

export function startSearch(): void {
  const form = find<HTMLFormElement>("#search-form");
  if (!form) return;
  new SearchForm(form).listen();
  startMomentPlayer();
  startShortcuts(form);
  document.addEventListener("click", closeMenus);
  document.addEventListener("keydown", closeMenus);
  document.addEventListener("click", recordOpened);
  document.addEventListener("auxclick", recordOpened);
}
