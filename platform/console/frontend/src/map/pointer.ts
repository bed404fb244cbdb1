// The pointer and the keyboard over the plot: moving, zooming, hovering, opening, lasso and box.
import { find } from "../dom";
import { css, inkColour } from "./palette";
import type { Plot } from "./plot";

export interface Acts {
  hover(place: number, px: number, py: number): void;
  open(place: number): void;
  /** What a finger or a key points at, in place of a pointer. */
  tell(place: number): void;
  step(by: number): void;
  openTold(): boolean;
  leave(): void;
  choose(places: number[], add: boolean): void;
}

type Point = [number, number];
const STEP = 40;
const CLICK = 4;

export class Pointer {
  private tool = "move";
  private path: Point[] = [];
  private held = new Map<number, Point>();
  private travelled = 0;
  private looking: Point | null = null;

  constructor(private plot: Plot, private box: HTMLElement, private over: HTMLCanvasElement, private acts: Acts) {
    box.addEventListener("pointerdown", (event) => this.down(event));
    box.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"] as const) box.addEventListener(name, (event) => this.up(event));
    box.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && acts.hover(-1, 0, 0));
    box.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    box.addEventListener("keydown", (event) => this.key(event));
  }

  use(tool: string): void {
    this.tool = tool;
    this.box.dataset.tool = tool;
  }

  private at(event: MouseEvent): Point {
    const edge = this.box.getBoundingClientRect();
    return [event.clientX - edge.left - this.box.clientLeft, event.clientY - edge.top - this.box.clientTop];
  }

  private down(event: PointerEvent): void {
    if (event.button > 0 || (event.target as Element).closest("a")) return;
    this.box.setPointerCapture(event.pointerId);
    this.held.set(event.pointerId, this.at(event));
    this.travelled = 0;
    if (this.tool !== "move") this.path = [this.at(event)];
  }

  private moved(event: PointerEvent): void {
    const here = this.at(event);
    const before = this.held.get(event.pointerId);
    if (!before) {
      if (this.tool === "move" && event.pointerType === "mouse") this.look(here);
      return;
    }
    this.travelled += Math.hypot(here[0] - before[0], here[1] - before[1]);
    if (this.tool !== "move") this.draw(here);
    else if (this.held.size === 2) this.pinch(event.pointerId, before, here);
    else this.plot.move(here[0] - before[0], here[1] - before[1]);
    this.held.set(event.pointerId, here);
  }

  /** Once a frame at most: the nearest of a million points takes some milliseconds. */
  private look(here: Point): void {
    const waiting = this.looking !== null;
    this.looking = here;
    if (waiting) return;
    requestAnimationFrame(() => {
      const there = this.looking ?? here;
      this.looking = null;
      this.acts.hover(this.plot.nearest(...there), ...there);
    });
  }

  /** Two fingers: what they come apart by is the zoom. */
  private pinch(id: number, before: Point, here: Point): void {
    const other = [...this.held].find(([one]) => one !== id)?.[1];
    if (!other) return;
    const was = Math.hypot(before[0] - other[0], before[1] - other[1]) || 1;
    this.plot.zoom(Math.hypot(here[0] - other[0], here[1] - other[1]) / was, ...other);
  }

  private up(event: PointerEvent): void {
    if (!this.held.delete(event.pointerId)) return;
    const here = this.at(event);
    if (this.tool !== "move") this.finish(event.shiftKey);
    else if (this.travelled < CLICK && event.type === "pointerup") {
      const place = this.plot.nearest(...here);
      // A finger does not hover: its first touch tells, and the card leads on.
      if (event.pointerType !== "mouse") this.acts.tell(place);
      else if (place >= 0) this.acts.open(place);
    }
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    this.plot.zoom(Math.exp(-event.deltaY * 0.0015), ...this.at(event));
  }

  private key(event: KeyboardEvent): void {
    const moves: Record<string, Point> = {
      ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP],
    };
    const move = moves[event.key];
    if (move) this.plot.move(...move);
    else if (event.key === "+" || event.key === "=") this.plot.zoom(1.3);
    else if (event.key === "-") this.plot.zoom(1 / 1.3);
    else if (event.key === "0") this.plot.reset();
    else if (event.key === "]") this.acts.step(1);
    else if (event.key === "[") this.acts.step(-1);
    else if (event.key === "Enter" && event.target === this.box && this.acts.openTold()) return;
    else if (event.key === "Escape") this.acts.leave();
    else return;
    event.preventDefault();
  }

  private draw(here: Point): void {
    const first = this.path[0] ?? here;
    if (this.tool === "box") this.path = [first, [here[0], first[1]], here, [first[0], here[1]]];
    else this.path.push(here);
    this.outline();
  }

  private finish(add: boolean): void {
    const chosen = this.plot.within(this.path);
    this.path = [];
    this.outline();
    this.acts.choose(chosen, add);
  }

  private outline(): void {
    const context = this.over.getContext("2d");
    if (!context) return;
    this.over.width = this.box.clientWidth;
    this.over.height = this.box.clientHeight;
    if (!this.path.length) return;
    context.strokeStyle = css(inkColour());
    context.setLineDash([5, 4]);
    context.beginPath();
    for (const [x, y] of this.path) context.lineTo(x, y);
    context.closePath();
    context.stroke();
  }
}

/** The buttons that choose what the pointer does. */
export function startTools(root: HTMLElement, pointer: Pointer): void {
  const buttons = [...root.querySelectorAll<HTMLButtonElement>("[data-tool]")].filter((one) => one.type === "button");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const one of buttons) one.setAttribute("aria-pressed", String(one === button));
      pointer.use(button.dataset.tool ?? "move");
      find<HTMLElement>("[data-plot]", root)?.focus();
    });
  }
}
