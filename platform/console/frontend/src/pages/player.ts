// Sound and film on an asset's page: a waveform, frames on a time line and a transcript that lead to moments.
import { all, find, need } from "../dom";
import { drawFrames } from "../frames";
import { t } from "../words";

const STEP_S = 5;

function start(): void {
  const box = find<HTMLElement>("[data-player]");
  const media = box && find<HTMLMediaElement>("audio, video", box);
  if (!box || !media) return;
  const failed = () => (need<HTMLElement>("[data-unplayable]", box).hidden = false);
  media.addEventListener("error", failed);
  if (media.error) failed();
  const duration = Number(box.dataset.duration) || 1;
  const wave = find<HTMLElement>("[data-waveform]", box);
  if (wave) new Wave(wave, media, duration).follow();
  followLines(media);
  const frames = find<HTMLElement>("[data-frames]", box);
  if (frames) void drawFrames(media.currentSrc || media.src, placesIn(frames), Math.max, shown);
}

function seek(media: HTMLMediaElement, seconds: number): void {
  media.currentTime = seconds;
  void media.play().catch(() => undefined); // the browser may ask for a click on the player first
}

/** "1:02", as the server writes it. */
function clock(seconds: number): string {
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (number: number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** The waveform is a slider: the pointer and the keyboard go to a moment. */
class Wave {
  private readonly played: SVGRectElement;
  private readonly width: number;

  constructor(
    private readonly box: HTMLElement,
    private readonly media: HTMLMediaElement,
    private readonly duration: number,
  ) {
    this.played = need("[data-played]", box);
    this.width = Number(need("svg", box).getAttribute("viewBox")?.split(" ")[2]);
  }

  follow(): void {
    this.box.setAttribute("role", "slider");
    this.box.tabIndex = 0;
    this.box.setAttribute("aria-valuemin", "0");
    this.box.setAttribute("aria-valuemax", String(Math.round(this.duration)));
    this.show();
    for (const name of ["timeupdate", "seeked"]) this.media.addEventListener(name, () => this.show());
    const svg = need<SVGElement>("svg", this.box);
    svg.addEventListener("click", (event) => {
      const { left, width } = svg.getBoundingClientRect();
      seek(this.media, (this.duration * (event.clientX - left)) / width);
    });
    this.box.addEventListener("keydown", (event) => {
      if (this.pressed(event.key)) event.preventDefault();
    });
  }

  private show(): void {
    const now = this.media.currentTime;
    this.played.setAttribute("width", String((this.width * Math.min(now, this.duration)) / this.duration));
    this.box.setAttribute("aria-valuenow", String(Math.round(now)));
    this.box.setAttribute("aria-valuetext", t("{at} of {length}", { at: clock(now), length: clock(this.duration) }));
  }

  private pressed(key: string): boolean {
    const now = this.media.currentTime;
    const places: Record<string, number> = {
      ArrowRight: now + STEP_S,
      ArrowUp: now + STEP_S,
      ArrowLeft: now - STEP_S,
      ArrowDown: now - STEP_S,
      Home: 0,
      End: this.duration,
    };
    const place = places[key];
    if (place !== undefined) this.media.currentTime = Math.max(0, Math.min(place, this.duration));
    else if (key === " " || key === "Enter") void (this.media.paused ? this.media.play() : this.media.pause());
    else return false;
    return true;
  }
}

function placesIn(frames: HTMLElement): [HTMLCanvasElement, number][] {
  return all<HTMLElement>("[data-seek]", frames).map((link) => [need("canvas", link), Number(link.dataset.seek)]);
}

function shown(canvas: HTMLCanvasElement): void {
  const link = canvas.closest<HTMLElement>("[data-seek]");
  if (link) link.dataset.drawn = "";
}

/** Frames and lines of the transcript seek; what is said at the moment is marked. */
function followLines(media: HTMLMediaElement): void {
  const lines = all<HTMLAnchorElement>("[data-seek]");
  for (const line of lines) {
    line.addEventListener("click", (event) => {
      event.preventDefault();
      seek(media, Number(line.dataset.seek));
    });
  }
  media.addEventListener("timeupdate", () => {
    for (const line of lines) if (line.dataset.until) mark(line, media.currentTime);
  });
}

function mark(line: HTMLAnchorElement, now: number): void {
  const said = now >= Number(line.dataset.seek) && now < Number(line.dataset.until);
  if (said) line.setAttribute("aria-current", "true");
  else line.removeAttribute("aria-current");
}

start();
