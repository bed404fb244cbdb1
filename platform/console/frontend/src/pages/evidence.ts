// The evidence viewer: what detectors marked over the picture, moments of sound and film, a spectrogram.
import { all, find, need } from "../dom";
import { drawFrames } from "../frames";
import { paintSpectrogram } from "../evidence/spectrogram";
import { t } from "../words";

// Sound is decoded in memory, at the rate and for the length at which detectors hear it.
const MOST_BYTES = 64 << 20;
const MOST_SECONDS = 600;

function startOverlay(viewer: HTMLElement): void {
  const controls = find<HTMLElement>("[data-overlay-controls]", viewer);
  const places = find<HTMLElement>("[data-boxes-switch]", viewer);
  if (controls) startSlider(viewer, controls);
  if (!places) return;
  const boxes = need<SVGElement>("[data-boxes]", viewer);
  places.hidden = false;
  need<HTMLInputElement>("input", places).addEventListener("change", (event) => {
    boxes.toggleAttribute("hidden", !(event.target as HTMLInputElement).checked);
  });
}

function startSlider(viewer: HTMLElement, controls: HTMLElement): void {
  const slider = need<HTMLInputElement>("[type=range]", controls);
  const output = need<HTMLOutputElement>("output", controls);
  const masks = all<HTMLImageElement>("[data-mask]", viewer);
  const which = find<HTMLSelectElement>("select", controls);
  const show = () => {
    output.value = `${slider.value} %`;
    for (const mask of masks) {
      mask.hidden = which ? mask.dataset.mask !== which.value : mask !== masks[0];
      mask.style.opacity = String(Number(slider.value) / 100);
    }
    if (which) need("[data-mask-name]", controls).textContent = which.value;
  };
  slider.addEventListener("input", show);
  which?.addEventListener("change", show);
  controls.hidden = false;
  show();
}

function startTimeline(line: HTMLElement): void {
  const media = need<HTMLMediaElement>("audio, video", line);
  const duration = Number(line.dataset.duration) || 1;
  const now = need<SVGRectElement>("[data-now]", line);
  const moments = all<HTMLButtonElement>("[data-seek]", line);
  for (const moment of moments) {
    moment.addEventListener("click", () => {
      media.currentTime = Number(moment.dataset.seek);
      void media.play().catch(() => undefined); // the browser may ask for a click on the player first
    });
  }
  media.addEventListener("timeupdate", () => {
    now.setAttribute("x", String((100 * media.currentTime) / duration));
    for (const moment of moments) mark(moment, media.currentTime);
  });
  const spectrogram = find<HTMLElement>("[data-spectrogram]", line);
  if (spectrogram) void showSpectrogram(line, spectrogram, media.src, duration);
  if (media instanceof HTMLVideoElement) void drawFrames(media.src, framesOf(moments), Math.min, (canvas) => (canvas.dataset.drawn = ""));
}

function mark(moment: HTMLElement, now: number): void {
  const from = Number(moment.dataset.seek);
  const inside = now >= from && now <= Math.max(Number(moment.dataset.until), from + 0.5);
  if (inside) moment.setAttribute("aria-current", "true");
  else moment.removeAttribute("aria-current");
}

async function showSpectrogram(line: HTMLElement, box: HTMLElement, source: string, duration: number): Promise<void> {
  const state = need<HTMLElement>("[data-spectrogram-state]", line);
  if (duration > MOST_SECONDS) {
    state.textContent = t("Recordings of more than ten minutes are shown without a spectrogram.");
    return;
  }
  try {
    const answer = await fetch(source);
    if (!answer.ok || Number(answer.headers.get("Content-Length")) > MOST_BYTES) throw new Error("too large");
    box.hidden = false;
    await paintSpectrogram(await answer.arrayBuffer(), need<HTMLCanvasElement>("canvas", box));
  } catch {
    box.hidden = true;
    state.textContent = t("This browser cannot decode the recording, so there is no spectrogram.");
  }
}

/** Each moment's canvas with its second. */
function framesOf(moments: HTMLElement[]): [HTMLCanvasElement, number][] {
  return moments.flatMap((moment): [HTMLCanvasElement, number][] => {
    const canvas = find<HTMLCanvasElement>("[data-frame]", moment);
    return canvas ? [[canvas, Number(moment.dataset.seek)]] : [];
  });
}

const started = new WeakSet<Element>();

function start(root: ParentNode): void {
  for (const viewer of all<HTMLElement>("[data-viewer]", root)) {
    if (started.has(viewer)) continue;
    started.add(viewer);
    startOverlay(viewer);
    const line = find<HTMLElement>("[data-timeline]", viewer);
    if (line) startTimeline(line);
  }
}

start(document);
// An audit that was followed to its end comes as a part.
document.body.addEventListener("htmx:load", () => start(document));
