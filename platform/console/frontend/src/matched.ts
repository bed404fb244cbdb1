// Films among the results show the moment that was found, not their poster: drawn by the browser when the tile comes into
// sight. What it cannot play keeps its poster.
import { all } from "./dom";
import { drawFrames } from "./frames";

const SIDE = 240;
const waiting: HTMLElement[] = [];
let drawing = false;

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    waiting.push(target as HTMLElement);
  }
  void drawNext();
});

export function startMatchedFrames(root: ParentNode): void {
  // Who pays for each byte keeps the poster.
  if ((navigator as Navigator & { connection?: { saveData?: boolean } }).connection?.saveData) return;
  for (const face of all<HTMLElement>("[data-film]", root)) seen.observe(face);
}

/** One film after the other: each is a connection and a decoder. */
async function drawNext(): Promise<void> {
  if (drawing) return;
  drawing = true;
  for (let face = waiting.shift(); face; face = waiting.shift()) await draw(face);
  drawing = false;
}

async function draw(face: HTMLElement): Promise<void> {
  const { film = "", at = "0" } = face.dataset;
  if (!face.isConnected) return;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  canvas.setAttribute("aria-hidden", "true");
  await drawFrames(film, [[canvas, Number(at)]], Math.max, () => {
    face.append(canvas);
    face.dataset.drawn = "";
  });
}
