// The similarity matrix of a selection, as a heat map.
import { need } from "../dom";
import { t } from "../words";
import { type Named, post } from "./assets";
import { pixel, STEPS, stepColour } from "./palette";
import { told } from "./model";

interface Answer {
  assets: string[];
  matrix: number[][];
  names: Record<string, Named>;
}

export async function showMatrix(root: HTMLElement, ids: string[]): Promise<void> {
  const section = need<HTMLElement>("[data-matrix]", root);
  const said = need<HTMLElement>("[data-matrix-told]", section);
  section.hidden = false;
  said.textContent = t("Comparing…");
  need<HTMLElement>("#map-matrix-title", section).focus();
  try {
    const answer = await post<Answer>(root.dataset.similarity ?? "", ids);
    const canvas = need<HTMLCanvasElement>("[data-matrix-canvas]", section);
    draw(canvas, answer.matrix);
    follow(canvas, answer, (words) => (said.textContent = words));
    said.textContent = t("{count} assets. Light is alike, dark is not; point at a field to read it.", { count: answer.assets.length });
  } catch (error) {
    said.textContent = error instanceof Error ? error.message : t("Try again.");
  }
}

/** From the least likeness in it to the most, leaving out that everything is like itself. */
function draw(canvas: HTMLCanvasElement, matrix: number[][]): void {
  const size = matrix.length;
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  if (!context) return;
  const others = matrix.flatMap((row, at) => row.filter((_, place) => place !== at));
  const least = others.reduce((a, b) => Math.min(a, b), 1);
  const width = (others.reduce((a, b) => Math.max(a, b), -1) - least) / STEPS || 1;
  const image = context.createImageData(size, size);
  const pixels = new Uint32Array(image.data.buffer);
  matrix.forEach((row, y) =>
    row.forEach((value, x) => (pixels[y * size + x] = pixel(stepColour(Math.floor((value - least) / width))))),
  );
  context.putImageData(image, 0, 0);
}

function follow(canvas: HTMLCanvasElement, answer: Answer, say: (words: string) => void): void {
  const size = answer.assets.length;
  let [x, y] = [0, 0];
  const name = (at: number) => answer.names[answer.assets[at] ?? ""]?.name ?? "";
  const tell = () =>
    say(t("{one} and {other}: {likeness}", { one: name(y), other: name(x), likeness: told(answer.matrix[y]?.[x] ?? NaN) }));
  canvas.onpointermove = (event) => {
    x = Math.min(size - 1, Math.floor((event.offsetX / canvas.clientWidth) * size));
    y = Math.min(size - 1, Math.floor((event.offsetY / canvas.clientHeight) * size));
    tell();
  };
  canvas.onkeydown = (event) => {
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    x = Math.max(0, Math.min(size - 1, x + move[0]));
    y = Math.max(0, Math.min(size - 1, y + move[1]));
    tell();
  };
}
