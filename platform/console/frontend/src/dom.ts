// Small helpers around the DOM, typed.
import { filesOf } from "./folders";

export function find<T extends Element>(selector: string, root: ParentNode = document): T | null {
  return root.querySelector<T>(selector);
}

export function all<T extends Element>(selector: string, root: ParentNode = document): T[] {
  return [...root.querySelectorAll<T>(selector)];
}

/** The element, or an error that names it: a template and its script disagree. */
export function need<T extends Element>(selector: string, root: ParentNode = document): T {
  const element = root.querySelector<T>(selector);
  if (!element) throw new Error(`missing element ${selector}`);
  return element;
}

/** A copy of the first element of a <template>. */
export function fromTemplate<T extends Element>(id: string): T {
  const template = need<HTMLTemplateElement>(`template#${id}`);
  const first = template.content.firstElementChild;
  if (!first) throw new Error(`empty template ${id}`);
  return first.cloneNode(true) as T;
}

export function csrfToken(): string {
  return document.body.dataset.csrf ?? "";
}

/** Put files into a file input, as if the person had picked them. */
export function setFiles(input: HTMLInputElement, files: File[]): void {
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  input.files = transfer.files;
}

/** Let files and folders be dropped on an element; it carries the class `dropping` meanwhile. */
export function onDrop(zone: HTMLElement, take: (files: File[]) => void): void {
  let depth = 0;
  const mark = (on: boolean) => zone.classList.toggle("dropping", on);
  zone.addEventListener("dragenter", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    depth += 1;
    mark(true);
  });
  zone.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) mark(false);
  });
  zone.addEventListener("dragover", (event) => event.preventDefault());
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    mark(false);
    if (!event.dataTransfer) return;
    void filesOf(event.dataTransfer).then((files) => {
      if (files.length) take(files);
    });
  });
}

/** Put a server-rendered part at the start of an element. Not htmx.ajax: that drops requests made at once. */
export async function prependFrom(url: string, target: Element): Promise<void> {
  const answer = await fetch(url, { headers: { "HX-Request": "true" } });
  if (answer.ok) target.insertAdjacentHTML("afterbegin", await answer.text());
}
