// Colours that people with any colour vision tell apart, on light and on dark grounds (after Okabe and Ito; viridis for
// numbers), as red, green, blue.
type Colour = [number, number, number];

const LIGHT: Colour[] = [
  [0, 114, 178], [213, 94, 0], [0, 138, 100], [190, 90, 150],
  [60, 150, 205], [176, 120, 0], [110, 70, 170], [90, 90, 90],
];
const DARK: Colour[] = [
  [90, 175, 235], [245, 135, 60], [60, 200, 150], [230, 140, 195],
  [150, 215, 250], [240, 190, 60], [180, 150, 245], [190, 190, 190],
];
const SCALE: Colour[] = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37],
];

const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** Categories that have a colour of their own. */
export const CATEGORIES = LIGHT.length;
export const STEPS = SCALE.length;

/** Of a category; beyond them, and for none, a grey. */
export function categoryColour(place: number): Colour {
  return (dark.matches ? DARK : LIGHT)[place] ?? (dark.matches ? [110, 118, 130] : [165, 172, 182]);
}

/** Of a step from the smallest to the greatest; the dark end is lifted on dark grounds. */
export function stepColour(step: number): Colour {
  const colour = SCALE[Math.max(0, Math.min(STEPS - 1, step))] ?? [0, 0, 0];
  return dark.matches ? (colour.map((one) => Math.round(60 + one * 0.76)) as Colour) : colour;
}

/** What stands out from everything: the colour of the text. */
export function inkColour(): Colour {
  return dark.matches ? [240, 244, 250] : [15, 20, 30];
}

/** What lies between a point and its ring. */
export function groundColour(): Colour {
  return dark.matches ? [26, 32, 40] : [255, 255, 255];
}

/** Around words on the plot, so that they are read over points of any colour. */
export function haloColour(): string {
  return dark.matches ? "rgb(15 20 30 / 0.85)" : "rgb(255 255 255 / 0.85)";
}

export function onColoursChange(act: () => void): void {
  dark.addEventListener("change", act);
}

/** As a pixel of an ImageData read as 32-bit numbers (little endian on every machine that runs browsers). */
export function pixel([red, green, blue]: Colour, alpha = 255): number {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export function css([red, green, blue]: Colour): string {
  return `rgb(${red} ${green} ${blue})`;
}
