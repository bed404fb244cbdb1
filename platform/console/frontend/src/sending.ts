// Sending a form with a file: at once if it is small, else in parts that survive a broken connection and a reload.
import { defaultOptions, DetailedError, Upload, type PreviousUpload } from "tus-js-client";
import { csrfToken } from "./dom";
import type { Row } from "./rows";
import { t } from "./words";

const BIG = 20 * 1024 * 1024;
// A part holds a thread of the server for as long as it takes.
const PART = 8 * 1024 * 1024;
const RETRY_MS = [0, 1000, 3000, 5000, 10_000, 20_000, 30_000];
const KEPT_MS = 24 * 3600 * 1000;
const PREFIX = "crosslight";

interface Problem {
  detail?: string;
  title?: string;
}

/** A refusal in the words of the server; `passing` where the same file may be taken next time. */
export class Refused extends Error {
  constructor(
    words: string,
    readonly passing = false,
  ) {
    super(words);
  }
}

/** Post the fields and the file; the parsed answer. Not everybody may send `inParts`. Throws Refused. */
export async function deliver<T>(
  url: string,
  fields: FormData,
  file: File | null,
  row: Row,
  inParts = true,
): Promise<T> {
  if (file && inParts && file.size > BIG) fields.set("upload", await sendInParts(file, url, row));
  else if (file) fields.set("file", file);
  return JSON.parse(await post(url, fields, row)) as T;
}

function post(url: string, fields: FormData, row: Row): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const small = !fields.has("upload");
    request.upload.onprogress = (event) => {
      if (small && event.lengthComputable) row.sent(event.loaded / event.total);
    };
    request.onload = () =>
      request.status < 300
        ? resolve(request.responseText)
        : reject(new Refused(explained(request.status, request.responseText), passes(request.status)));
    request.onerror = () => reject(new Refused(t("The connection broke."), true));
    request.open("POST", url);
    request.setRequestHeader("X-CSRFToken", csrfToken());
    request.setRequestHeader("Accept", "application/json");
    request.send(fields);
    row.sent(small ? 0 : 1);
  });
}

/** The id of the finished upload. `place` is where the file goes: only there an earlier attempt is gone on with. */
async function sendInParts(file: File, place: string, row: Row): Promise<string> {
  try {
    return await new Promise<string>((resolve, reject) => void start(file, place, row, resolve, reject));
  } finally {
    row.unpausable();
  }
}

async function start(
  file: File,
  place: string,
  row: Row,
  resolve: (id: string) => void,
  reject: (error: Error) => void,
): Promise<void> {
  let stopped = false;
  const upload = new Upload(file, {
    endpoint: "/uploads",
    chunkSize: PART,
    retryDelays: RETRY_MS,
    headers: { "X-CSRFToken": csrfToken(), Accept: "application/json" },
    metadata: { filename: file.name },
    removeFingerprintOnSuccess: true,
    fingerprint: () => Promise.resolve(fingerprint(place, file)),
    onProgress: (sent, total) => {
      if (!stopped) row.sent(total ? sent / total : 1);
    },
    onSuccess: () => resolve((upload.url ?? "").split("/").pop() ?? ""),
    onError: (error) => reject(refusal(error)),
  });
  row.pausable(() => {
    stopped = !stopped;
    if (stopped) void upload.abort();
    else upload.start();
    return stopped;
  });
  const [previous] = await upload.findPreviousUploads();
  if (previous) upload.resumeFromPreviousUpload(previous);
  if (!stopped) upload.start();
}

function fingerprint(place: string, file: File): string {
  return [PREFIX, place, file.name, file.size, file.lastModified].join("|");
}

/** Names of files that were not sent to their end to one of these places; a browser forgets the files themselves. */
export async function brokenOff(places: string[]): Promise<string[]> {
  const known = await storage()?.findAllUploads();
  return (known ?? []).filter((one) => isRecent(one) && goesTo(one, places)).map((one) => one.metadata.filename ?? "");
}

function storage(): { findAllUploads(): Promise<PreviousUpload[]> } | undefined {
  return defaultOptions.urlStorage;
}

function isRecent(upload: PreviousUpload): boolean {
  return Date.now() - new Date(upload.creationTime).getTime() < KEPT_MS;
}

function goesTo(upload: PreviousUpload, places: string[]): boolean {
  return places.some((place) => upload.urlStorageKey.startsWith(`tus::${PREFIX}|${place}|`));
}

function refusal(error: Error): Refused {
  const answer = error instanceof DetailedError ? error.originalResponse : null;
  if (!answer) return new Refused(t("The connection broke. Trying again goes on where it stopped."), true);
  return new Refused(explained(answer.getStatus(), answer.getBody()), passes(answer.getStatus()));
}

/** Whether the answer was about the moment, not about the file: too many at once, no room, no service, over quota. */
function passes(status: number): boolean {
  return status >= 500 || [401, 403, 408, 429].includes(status);
}

function explained(status: number, body: string): string {
  if (status === 401) return t("You are signed out. Reload the page and sign in.");
  try {
    const problem = JSON.parse(body) as Problem;
    return problem.detail ?? problem.title ?? t("This was not accepted.");
  } catch {
    return status === 413 ? t("This file is too large.") : t("This was not accepted ({status}).", { status });
  }
}
