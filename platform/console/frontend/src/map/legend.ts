// The legend: what each colour means, how many points have it, and whether they are shown.
import { need } from "../dom";
import { shown } from "../words";
import type { Model } from "./model";
import { css } from "./palette";

export function showLegend(root: HTMLElement, model: Model, changed: () => void): void {
  const list = need<HTMLElement>("[data-legend]", root);
  list.replaceChildren(
    ...model.lines.filter((line) => line.count).map((line) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(line.shown));
      button.append(swatch(line.colour), text(line.label), text(shown(line.count)));
      button.addEventListener("click", () => {
        line.shown = !line.shown;
        button.setAttribute("aria-pressed", String(line.shown));
        changed();
      });
      return button;
    }),
  );
}

/** Drawn, as a style attribute would be refused. */
function swatch(colour: [number, number, number]): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 14;
  const context = canvas.getContext("2d");
  if (context) {
    context.fillStyle = css(colour);
    context.beginPath();
    context.arc(7, 7, 6, 0, 7);
    context.fill();
  }
  return canvas;
}

function text(words: string): HTMLSpanElement {
  const span = document.createElement("span");
  span.textContent = words;
  return span;
}
