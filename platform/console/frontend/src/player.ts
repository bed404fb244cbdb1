// Sound and film on an asset's page: a waveform and a transcript that lead to moments.
import { all, find, need } from "./dom";

export function startPlayer(): void {
  const box = find<HTMLElement>("[data-player]");
  const media = box && find<HTMLMediaElement>("audio, video", box);
  if (!box || !media) return;
  const failed = () => (need<HTMLElement>("[data-unplayable]", box).hidden = false);
  media.addEventListener("error", failed);
  if (media.error) failed();
  const wave = find<SVGElement>("[data-waveform]", box);
  if (wave) followWave(wave, media, Number(box.dataset.duration) || 1);
  followLines(media);
}

function seek(media: HTMLMediaElement, seconds: number): void {
  media.currentTime = seconds;
  void media.play().catch(() => undefined); // the browser may ask for a click on the player first
}

function followWave(wave: SVGElement, media: HTMLMediaElement, duration: number): void {
  const played = need<SVGRectElement>("[data-played]", wave);
  const width = Number(wave.getAttribute("viewBox")?.split(" ")[2]);
  media.addEventListener("timeupdate", () => {
    played.setAttribute("width", String((width * media.currentTime) / duration));
  });
  wave.addEventListener("click", (event) => {
    const { left, width: shown } = wave.getBoundingClientRect();
    seek(media, (duration * (event.clientX - left)) / shown);
  });
}

/** Each line of the transcript seeks; the one that is being said is marked. */
function followLines(media: HTMLMediaElement): void {
  const lines = all<HTMLAnchorElement>("[data-seek]");
  for (const line of lines) {
    line.addEventListener("click", (event) => {
      event.preventDefault();
      seek(media, Number(line.dataset.seek));
    });
  }
  media.addEventListener("timeupdate", () => {
    for (const line of lines) mark(line, media.currentTime);
  });
}

function mark(line: HTMLAnchorElement, now: number): void {
  const said = now >= Number(line.dataset.seek) && now < Number(line.dataset.until);
  if (said) line.setAttribute("aria-current", "true");
  else line.removeAttribute("aria-current");
}
