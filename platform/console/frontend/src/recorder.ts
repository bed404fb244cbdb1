// The microphone button: press to record, press again to stop and send.
import { need } from "./dom";
import { notice } from "./notices";
import { t } from "./words";

const MAX_SECONDS = 60;
const TYPES = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];

export function startRecorder(button: HTMLButtonElement, send: (file: File) => void): void {
  if (typeof MediaRecorder === "undefined" || !navigator.mediaDevices) {
    button.disabled = true;
    button.title = t("This browser cannot record here. Speaking needs HTTPS or localhost.");
    return;
  }
  const recorder = new Recorder(button, send);
  button.addEventListener("click", () => recorder.toggle());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") recorder.discard();
  });
}

class Recorder {
  private media: MediaRecorder | null = null;
  private parts: Blob[] = [];
  private started = 0;
  private ticker = 0;

  constructor(
    private readonly button: HTMLButtonElement,
    private readonly send: (file: File) => void,
  ) {}

  toggle(): void {
    if (this.media) this.media.stop();
    else void this.start();
  }

  discard(): void {
    this.parts = [];
    if (this.media) {
      this.media.ondataavailable = null;
      this.media.stop();
    }
  }

  private async start(): Promise<void> {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      this.record(stream);
    } catch (error) {
      notice(reason(error));
    }
  }

  private record(stream: MediaStream): void {
    const type = TYPES.find((candidate) => MediaRecorder.isTypeSupported(candidate)) ?? "";
    this.media = new MediaRecorder(stream, type ? { mimeType: type } : {});
    this.parts = [];
    this.media.ondataavailable = (event) => this.parts.push(event.data);
    this.media.onstop = () => this.stopped(stream);
    this.media.start();
    this.started = Date.now();
    this.ticker = window.setInterval(() => this.tick(), 250);
    this.show(true);
  }

  private tick(): void {
    const seconds = Math.floor((Date.now() - this.started) / 1000);
    need("[data-elapsed]", this.button).textContent = `0:${String(seconds).padStart(2, "0")}`;
    if (seconds >= MAX_SECONDS - 1) this.media?.stop();
  }

  private stopped(stream: MediaStream): void {
    clearInterval(this.ticker);
    for (const track of stream.getTracks()) track.stop();
    const type = this.media?.mimeType ?? "audio/webm";
    const sound = new Blob(this.parts, { type });
    this.media = null;
    this.show(false);
    if (sound.size) this.send(new File([sound], "spoken", { type }));
  }

  private show(recording: boolean): void {
    this.button.setAttribute("aria-pressed", String(recording));
    need("[data-label]", this.button).textContent = recording ? t("Stop and search") : t("Speak");
    need("[data-elapsed]", this.button).textContent = recording ? "0:00" : "";
  }
}

function reason(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError") return t("The browser did not allow the microphone. Allow it and try again.");
  if (name === "NotFoundError") return t("There is no microphone.");
  return t("The microphone cannot be used at the moment.");
}
