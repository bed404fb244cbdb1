// The plot: points written straight into the pixels of a canvas. See ADR 26 for why, and what that was measured against.
import { css, groundColour, haloColour, inkColour, pixel } from "./palette";

/** What is drawn of a point, by its place: its colour, or 0 for nothing. */
export interface Scene {
  x: Float32Array;
  y: Float32Array;
  colour: Uint32Array;
  marked: Uint8Array;
}

/** Words on the plot, in the order of their weight: those that would lie on earlier ones wait until it is zoomed. */
export interface Label {
  x: number;
  y: number;
  text: string;
  /** Pixels above the place; 0 is around it. */
  above: number;
  strong: boolean;
}

/** Of up to so many points, the radius of each in the whole map. */
const CROWDS: [number, number][] = [[2_000, 3], [20_000, 1.8], [300_000, 1.1]];
const PADDING = 0.06;
const LONGEST_LABEL = 34;
const MAX_ZOOM = 400;

export class Plot {
  /** Pixels a unit, and where the origin lies, in CSS pixels. */
  private scale = 1;
  private left = 0;
  private top = 0;
  private whole = 1;
  private context: CanvasRenderingContext2D;
  private image: ImageData | null = null;
  private waiting = 0;
  private scene: Scene | null = null;
  private labels: Label[] = [];
  /** What a key or a finger points at, with a ring; -1 for nothing. */
  pointed = -1;

  constructor(private canvas: HTMLCanvasElement, private box: HTMLElement, private drawn: () => void) {
    const context = canvas.getContext("2d");
    if (!context) throw new Error("no canvas");
    this.context = context;
    new ResizeObserver(() => this.resize()).observe(box);
  }

  show(scene: Scene): void {
    const first = !this.scene || this.scene.x.length !== scene.x.length;
    this.scene = scene;
    if (first) this.reset();
    else this.redraw();
  }

  label(labels: Label[]): void {
    this.labels = labels;
    this.redraw();
  }

  /** Show all points. */
  reset(): void {
    const scene = this.scene;
    if (!scene) return;
    this.fit(extent(scene.x), extent(scene.y));
    this.whole = this.scale;
  }

  /** Show these points, all but the outermost twentieth to each side. */
  showPlaces(places: number[]): void {
    const scene = this.scene;
    if (!scene || !places.length) return;
    const inner = (values: Float32Array): [number, number] => {
      const sorted = places.map((place) => values[place] ?? 0).sort((a, b) => a - b);
      return [sorted[Math.floor(sorted.length * 0.05)] ?? 0, sorted[Math.ceil(sorted.length * 0.95) - 1] ?? 0];
    };
    this.fit(inner(scene.x), inner(scene.y), this.whole * MAX_ZOOM * 0.25);
  }

  private fit([x0, x1]: [number, number], [y0, y1]: [number, number], most = Infinity): void {
    const width = this.box.clientWidth || 1;
    const height = this.box.clientHeight || 1;
    const room = 1 - 2 * PADDING;
    this.scale = Math.min((width * room) / (x1 - x0 || 1), (height * room) / (y1 - y0 || 1), most);
    this.left = width / 2 - ((x0 + x1) / 2) * this.scale;
    this.top = height / 2 + ((y0 + y1) / 2) * this.scale;
    this.redraw();
  }

  move(dx: number, dy: number): void {
    this.left += dx;
    this.top += dy;
    this.redraw();
  }

  /** Around a place of the plot, or its middle. */
  zoom(factor: number, px = this.box.clientWidth / 2, py = this.box.clientHeight / 2): void {
    const to = Math.max(this.whole / 4, Math.min(this.whole * MAX_ZOOM, this.scale * factor));
    const by = to / this.scale;
    this.scale = to;
    this.left = px - (px - this.left) * by;
    this.top = py - (py - this.top) * by;
    this.redraw();
  }

  pixelOf(place: number): [number, number] {
    const scene = this.scene;
    if (!scene) return [0, 0];
    return [(scene.x[place] ?? 0) * this.scale + this.left, this.top - (scene.y[place] ?? 0) * this.scale];
  }

  /** The shown point that is nearest to a place of the plot, within so many pixels; -1 for none. */
  nearest(px: number, py: number, within = 10): number {
    const scene = this.scene;
    let best = -1;
    let least = (within / this.scale) ** 2;
    if (!scene) return best;
    const x = (px - this.left) / this.scale;
    const y = (this.top - py) / this.scale;
    for (let place = 0; place < scene.x.length; place++) {
      if (!scene.colour[place]) continue;
      const apart = ((scene.x[place] ?? 0) - x) ** 2 + ((scene.y[place] ?? 0) - y) ** 2;
      if (apart <= least) [best, least] = [place, apart];
    }
    return best;
  }

  /** The shown points in the plot, from its middle outwards: what the keyboard steps through. */
  around(most: number): number[] {
    const scene = this.scene;
    if (!scene) return [];
    const width = this.box.clientWidth;
    const height = this.box.clientHeight;
    const found: [number, number][] = [];
    for (let place = 0; place < scene.x.length; place++) {
      if (!scene.colour[place]) continue;
      const [px, py] = this.pixelOf(place);
      if (px >= 0 && py >= 0 && px <= width && py <= height) found.push([(px - width / 2) ** 2 + (py - height / 2) ** 2, place]);
    }
    return found.sort((a, b) => a[0] - b[0]).slice(0, most).map(([, place]) => place);
  }

  /** The shown points within a polygon of the plot's pixels. */
  within(polygon: [number, number][]): number[] {
    const scene = this.scene;
    if (!scene || polygon.length < 3) return [];
    const corners = polygon.map(([px, py]) => [(px - this.left) / this.scale, (this.top - py) / this.scale] as const);
    const found: number[] = [];
    for (let place = 0; place < scene.x.length; place++) {
      if (scene.colour[place] && isInside(scene.x[place] ?? 0, scene.y[place] ?? 0, corners)) found.push(place);
    }
    return found;
  }

  redraw(): void {
    if (!this.waiting) {
      this.waiting = requestAnimationFrame(() => {
        this.waiting = 0;
        this.paint();
      });
    }
  }

  private resize(): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(this.box.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.box.clientHeight * ratio));
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.image = null;
    this.reset();
  }

  private paint(): void {
    const scene = this.scene;
    const { width, height } = this.canvas;
    if (!scene || width < 2 || height < 2) return;
    this.image ??= this.context.createImageData(width, height);
    const pixels = new Uint32Array(this.image.data.buffer);
    pixels.fill(0);
    const ratio = width / (this.box.clientWidth || width);
    const grown = Math.log2(Math.max(1, this.scale / this.whole));
    const crowd = CROWDS.find(([most]) => scene.x.length <= most)?.[1] ?? 0.4;
    const disc = spans((crowd + grown * 0.5) * ratio);
    const ring = spans((crowd + grown * 0.5 + 2) * ratio);
    const ink = pixel(inkColour());
    const draw = (place: number, shape: number[], colour: number) => {
      const px = Math.round(((scene.x[place] ?? 0) * this.scale + this.left) * ratio);
      const py = Math.round((this.top - (scene.y[place] ?? 0) * this.scale) * ratio);
      stamp(pixels, width, height, px, py, shape, colour);
    };
    this.points(scene, pixels, disc, ratio);
    for (let place = 0; place < scene.x.length; place++) {
      if (!scene.marked[place] || !scene.colour[place]) continue;
      draw(place, ring, ink);
      draw(place, disc, scene.colour[place] ?? 0);
    }
    if (this.pointed >= 0) {
      draw(this.pointed, spans((crowd + grown * 0.5 + 5) * ratio), ink);
      draw(this.pointed, spans((crowd + grown * 0.5 + 3) * ratio), pixel(groundColour()));
      draw(this.pointed, disc, scene.colour[this.pointed] || ink);
    }
    this.context.putImageData(this.image, 0, 0);
    this.write(ratio);
    this.drawn();
  }

  /** All points, those well inside without a look at the edges: of a million each test counts. */
  private points(scene: Scene, pixels: Uint32Array, disc: number[], ratio: number): void {
    const { width, height } = this.canvas;
    const { x, y, colour } = scene;
    const rows = (disc.length - 1) / 2;
    const edge = Math.max(rows, ...disc);
    const offsets = disc.flatMap((half, row) => Array.from({ length: 2 * half + 1 }, (_, at) => (row - rows) * width + at - half));
    const [scale, left, top] = [this.scale * ratio, this.left * ratio, this.top * ratio];
    for (let place = 0; place < x.length; place++) {
      const ink = colour[place] as number;
      if (!ink) continue;
      const px = Math.round((x[place] as number) * scale + left);
      const py = Math.round(top - (y[place] as number) * scale);
      if (px < edge || py < edge || px >= width - edge || py >= height - edge) {
        stamp(pixels, width, height, px, py, disc, ink);
        continue;
      }
      const at = py * width + px;
      for (let one = 0; one < offsets.length; one++) pixels[at + (offsets[one] as number)] = ink;
    }
  }

  /** The labels that have room, the weightiest first. */
  private write(ratio: number): void {
    const context = this.context;
    const { width, height } = this.canvas;
    const taken: [number, number, number, number][] = [];
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 4 * ratio;
    context.strokeStyle = haloColour();
    context.fillStyle = css(inkColour());
    for (const label of this.labels) {
      const px = (label.x * this.scale + this.left) * ratio;
      const py = (this.top - label.y * this.scale - label.above) * ratio;
      if (!(px >= 0 && py >= 0 && px <= width && py <= height)) continue;
      const text = label.text.length > LONGEST_LABEL ? `${label.text.slice(0, LONGEST_LABEL - 1)}…` : label.text;
      context.font = `${label.strong ? 700 : 600} ${(label.strong ? 13 : 12) * ratio}px system-ui, sans-serif`;
      const half = context.measureText(text).width / 2 + 3 * ratio;
      // Within the plot, whole.
      const at = Math.min(Math.max(px, half), width - half);
      const box: [number, number, number, number] = [at - half, py - 9 * ratio, at + half, py + 9 * ratio];
      if (taken.some(([x0, y0, x1, y1]) => box[0] < x1 && box[2] > x0 && box[1] < y1 && box[3] > y0)) continue;
      taken.push(box);
      context.strokeText(text, at, py);
      context.fillText(text, at, py);
    }
  }
}

/** Half the width of each row of a disc, from its top. */
function spans(radius: number): number[] {
  const rows = Math.max(0, Math.round(radius));
  return Array.from({ length: 2 * rows + 1 }, (_, row) =>
    Math.floor(Math.sqrt(Math.max(0, (radius + 0.3) ** 2 - (row - rows) ** 2))),
  );
}

function stamp(
  pixels: Uint32Array, width: number, height: number, px: number, py: number, shape: number[], colour: number,
): void {
  const rows = (shape.length - 1) / 2;
  if (px < -rows || py < -rows || px >= width + rows || py >= height + rows) return;
  for (let row = 0; row < shape.length; row++) {
    const y = py + row - rows;
    if (y < 0 || y >= height) continue;
    const half = shape[row] ?? 0;
    const from = Math.max(0, px - half);
    const to = Math.min(width - 1, px + half);
    for (let at = y * width + from; at <= y * width + to; at++) pixels[at] = colour;
  }
}

function extent(values: Float32Array): [number, number] {
  let least = Infinity;
  let most = -Infinity;
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return least <= most ? [least, most] : [0, 1];
}

/** By the crossings of a line to the right. */
function isInside(x: number, y: number, corners: (readonly [number, number])[]): boolean {
  let inside = false;
  for (let at = 0, before = corners.length - 1; at < corners.length; before = at++) {
    const [x1, y1] = corners[at] ?? [0, 0];
    const [x2, y2] = corners[before] ?? [0, 0];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}
