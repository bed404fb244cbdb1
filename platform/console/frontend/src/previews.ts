// The picture that a generation has reached so far: fetched again at each step of its job. The old one stays until
// the new one is there, so nothing flickers.
import { all } from "./dom";

const busy = new WeakSet<Element>();

export function startPreviews(): void {
  document.addEventListener("job", (event) => {
    const { id } = (event as CustomEvent<{ id: string }>).detail;
    for (const place of all<HTMLElement>(`[data-preview][data-preview-job="${CSS.escape(id)}"]`)) {
      void renew(place);
    }
  });
}

async function renew(place: HTMLElement): Promise<void> {
  const image = place.querySelector("img");
  if (!image || busy.has(place)) return;
  busy.add(place);
  try {
    const answer = await fetch(place.dataset.preview ?? "", { cache: "no-store" });
    // 204: nothing to be seen yet.
    if (answer.status === 200) show(image, URL.createObjectURL(await answer.blob()));
  } catch {
    // The next step asks again.
  } finally {
    busy.delete(place);
  }
}

function show(image: HTMLImageElement, address: string): void {
  const before = image.src;
  image.addEventListener("load", () => before.startsWith("blob:") && URL.revokeObjectURL(before), { once: true });
  image.src = address;
  image.hidden = false;
}
