// Frames of a film: the browser decodes it anyway, so a second, unseen player goes to each moment.

/** Draw each moment's picture into its canvas, one after the other: `fit` fills it (max) or stays inside (min). */
export async function drawFrames(
  source: string,
  places: [HTMLCanvasElement, number][],
  fit: (...scales: number[]) => number,
  drawn: (canvas: HTMLCanvasElement) => void,
): Promise<void> {
  const film = document.createElement("video");
  film.muted = true;
  film.preload = "auto";
  film.src = source;
  try {
    // Before that, a moment would only be where playing starts, and the first one is often where it stands already.
    await once(film, "loadeddata");
    for (const [canvas, seconds] of places) {
      film.currentTime = seconds;
      await once(film, "seeked");
      draw(film, canvas, fit);
      drawn(canvas);
    }
  } catch {
    // It cannot be played: the page says so beside the player, and the moments stay as numbers.
  } finally {
    film.removeAttribute("src");
    film.load();
  }
}

function draw(film: HTMLVideoElement, canvas: HTMLCanvasElement, fit: (...scales: number[]) => number): void {
  const scale = fit(canvas.width / film.videoWidth, canvas.height / film.videoHeight);
  const [width, height] = [film.videoWidth * scale, film.videoHeight * scale];
  canvas
    .getContext("2d")
    ?.drawImage(film, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

function once(media: HTMLMediaElement, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    media.addEventListener(name, () => resolve(), { once: true });
    media.addEventListener("error", () => reject(media.error ?? new Error("cannot be played")), { once: true });
  });
}
