// The lines of the list of uploads: what each file is doing.
import { all, fromTemplate, need } from "./dom";
import { t } from "./words";

export class Row {
  readonly element = fromTemplate<HTMLElement>("upload-row");
  private readonly bar = need<HTMLProgressElement>("progress", this.element);
  private readonly words = need<HTMLElement>("[data-words]", this.element);
  private readonly button = need<HTMLButtonElement>("[data-pause]", this.element);
  private readonly again = need<HTMLButtonElement>("[data-again]", this.element);

  constructor(name: string) {
    need("[data-name]", this.element).textContent = name;
  }

  sent(share: number): void {
    this.bar.value = share;
    this.say("sending", share < 1 ? t("Sending {n} %", { n: Math.floor(share * 100) }) : t("Sent, being checked"));
  }

  /** `state` is one of waiting, sending, paused, working, done, failed: the stylesheet knows them. */
  say(state: string, words: string): void {
    this.element.dataset.state = state;
    this.words.textContent = words;
    if (state === "working") this.bar.removeAttribute("value");
    if (state === "done" || state === "failed") this.bar.value = 1;
    if (state !== "failed") this.again.hidden = true;
    this.changed();
  }

  /** Called with every change of the state. */
  changed: () => void = () => undefined;

  /** Why it failed, what to do about it, and a button that does it. */
  fail(reason: string, advice: string, label: string, act: () => void): void {
    this.say("failed", reason);
    if (advice) {
      const words = document.createElement("span");
      words.className = "upload-advice";
      words.textContent = advice;
      this.words.append(" ", words);
    }
    this.again.textContent = label;
    this.again.hidden = false;
    this.again.onclick = () => {
      // The button goes; the line keeps the focus, so that the keyboard stays where it is.
      this.element.tabIndex = -1;
      this.element.focus({ preventScroll: true });
      act();
    };
  }

  /** Words that lead to a page. */
  link(state: string, words: string, page: string): void {
    this.say(state, "");
    const link = document.createElement("a");
    link.href = page;
    link.textContent = words;
    this.words.append(link);
  }

  /** A button that stops the sending and goes on with it; `toggle` answers whether it is stopped now. */
  pausable(toggle: () => boolean): void {
    this.button.hidden = false;
    this.button.onclick = () => {
      const stopped = toggle();
      this.button.textContent = stopped ? t("Go on") : t("Pause");
      this.say(stopped ? "paused" : "sending", stopped ? t("Paused") : t("Going on"));
    };
  }

  unpausable(): void {
    this.button.hidden = true;
  }
}

/** Show lines at the top of the list, in their order. */
export function showRows(list: HTMLElement, rows: Row[]): void {
  list.prepend(...rows.map((row) => row.element));
  list.hidden = false;
  list.scrollTop = 0;
}

/** Move a line behind those that failed before it, or back among the others; what is being read stays where it is. */
export function place(list: HTMLElement, row: Row): void {
  const failed = all<HTMLElement>(":scope > [data-state=failed]", list);
  const others = failed.filter((one) => one !== row.element);
  const first = list.firstElementChild;
  const behind = others.length ? others[others.length - 1]?.nextElementSibling : first;
  if (behind === row.element || row.element.contains(document.activeElement)) return;
  const top = list.getBoundingClientRect().top;
  const read = all<HTMLElement>(":scope > li", list).find(
    (one) => one !== row.element && one.getBoundingClientRect().bottom > top,
  );
  const before = read?.getBoundingClientRect().top ?? 0;
  list.insertBefore(row.element, behind ?? null);
  if (read && list.scrollTop > 0) list.scrollTop += read.getBoundingClientRect().top - before;
}
