// The lines of the list of uploads: what each file is doing.
import { fromTemplate, need } from "./dom";
import { t } from "./words";

export class Row {
  readonly element = fromTemplate<HTMLElement>("upload-row");
  private readonly bar = need<HTMLProgressElement>("progress", this.element);
  private readonly words = need<HTMLElement>("[data-words]", this.element);
  private readonly button = need<HTMLButtonElement>("[data-pause]", this.element);

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
