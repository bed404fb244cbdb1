// The plot: points written straight into the pixels of a canvas. See ADR 26 for why, and what that was measured against.
import { inkColour, pixel } from "./palette";

/** What is drawn of a point, by its place: its colour, or 0 for nothing. */
export interface Scene {
  x: Float32Array;
  y: Float32Array;
  colour: Uint32Array;
  marked: Uint8Array;
}

const PADDING = 0.06;
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

  /** Show all points. */
  reset(): void {
    const scene = this.scene;
    if (!scene) return;
    const [x0, x1] = extent(scene.x);
    const [y0, y1] = extent(scene.y);
    const width = this.box.clientWidth || 1;
    const height = this.box.clientHeight || 1;
    const room = 1 - 2 * PADDING;
    this.scale = Math.min((width * room) / (x1 - x0 || 1), (height * room) / (y1 - y0 || 1));
    this.whole = this.scale;
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
    const crowd = scene.x.length > 20_000 ? 1.1 : scene.x.length > 2_000 ? 1.8 : 3;
    const disc = spans((crowd + grown * 0.5) * ratio);
    const ring = spans((crowd + grown * 0.5 + 2) * ratio);
    const ink = pixel(inkColour());
    const draw = (place: number, shape: number[], colour: number) => {
      const px = Math.round(((scene.x[place] ?? 0) * this.scale + this.left) * ratio);
      const py = Math.round((this.top - (scene.y[place] ?? 0) * this.scale) * ratio);
      stamp(pixels, width, height, px, py, shape, colour);
    };
    for (let place = 0; place < scene.x.length; place++) {
      const colour = scene.colour[place] ?? 0;
      if (colour) draw(place, disc, colour);
    }
    for (let place = 0; place < scene.x.length; place++) {
      if (!scene.marked[place] || !scene.colour[place]) continue;
      draw(place, ring, ink);
      draw(place, disc, scene.colour[place] ?? 0);
    }
    this.context.putImageData(this.image, 0, 0);
    this.drawn();
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
