// A map as the server packs it: how long the header is, a header of JSON, and the arrays that it names, each at a
// multiple of four bytes. What is drawn arrives before the ids, which only names, links and actions need.
import { t } from "../words";
import type { Answer, Column } from "./model";

interface Head extends Omit<Answer, "x" | "y" | "x2" | "y2" | "moved"> {
  arrays: [name: string, type: string, length: number][];
  extent: [[number, number], [number, number]];
}

type Numbers = Float32Array | Int8Array | Uint16Array | Uint8Array;

const KINDS: Record<string, new (buffer: ArrayBuffer, at: number, length: number) => Numbers> = {
  f4: Float32Array, i1: Int8Array, u2: Uint16Array, u1: Uint8Array,
};
const ID_BYTES = 16;

export interface Received {
  answer: Answer;
  /** Sixteen bytes a point, in ascending order. */
  ids: Promise<Uint8Array>;
}

/** Reads an answer as it comes. Raises an error with the words of the server. */
export async function receive(response: Response): Promise<Received> {
  if (!response.ok || !response.body) {
    const body = await response.json().catch(() => ({}));
    throw new Error(body.detail ?? t("The server did not answer. Try again."));
  }
  const stream = new Stream(response.body.getReader());
  const length = new DataView((await stream.take(4)).buffer).getUint32(0, true);
  const head: Head = JSON.parse(new TextDecoder().decode(await stream.take(length)));
  const arrays = new Map<string, Numbers>();
  for (const [name, type, size] of head.arrays) {
    const kind = KINDS[type];
    if (!kind) throw new Error(t("The server did not answer. Try again."));
    if (name === "ids") return { answer: answerOf(head, arrays), ids: stream.take(padded(size)).then((held) => held.subarray(0, size)) };
    const bytes = size * Number(type[1]);
    arrays.set(name, new kind((await stream.take(padded(bytes))).buffer, 0, size));
  }
  return { answer: answerOf(head, arrays), ids: Promise.resolve(new Uint8Array()) };
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

function answerOf(head: Head, arrays: Map<string, Numbers>): Answer {
  const columns: Record<string, Column> = {};
  for (const [name, column] of Object.entries(head.columns)) {
    columns[name] = {
      ...column,
      codes: arrays.get(`${name}.codes`) as Int8Array | undefined,
      numbers: arrays.get(`${name}.numbers`) as Float32Array | undefined,
    };
  }
  const [least, most] = head.extent;
  const more = (name: string) => arrays.get(name) as Float32Array | undefined;
  return {
    ...head, columns, x: placesOf(arrays.get("x"), least[0], most[0]), y: placesOf(arrays.get("y"), least[1], most[1]),
    x2: more("x2"), y2: more("y2"), moved: more("moved"),
  };
}

/** Of many points a place is a share of the extent. */
function placesOf(values: Numbers | undefined, least: number, most: number): Float32Array {
  if (values instanceof Float32Array) return values;
  return Float32Array.from(values ?? [], (one) => least + (one / 65535) * (most - least));
}

/** So many bytes at a time of what comes in pieces of any size. */
class Stream {
  private left = new Uint8Array();

  constructor(private reader: ReadableStreamDefaultReader<Uint8Array>) {}

  async take(count: number): Promise<Uint8Array<ArrayBuffer>> {
    const found = new Uint8Array(count);
    let at = 0;
    while (at < count) {
      if (!this.left.length) {
        const { done, value } = await this.reader.read();
        if (done) throw new Error(t("The server did not answer. Try again."));
        this.left = new Uint8Array(value);
      }
      const some = this.left.subarray(0, count - at);
      found.set(some, at);
      at += some.length;
      this.left = this.left.subarray(some.length);
    }
    return found;
  }
}

const HEX = Array.from({ length: 256 }, (_, one) => one.toString(16).padStart(2, "0"));

/** The id at a place, as everybody writes it. */
export function idAt(ids: Uint8Array, place: number): string {
  let text = "";
  for (let at = 0; at < ID_BYTES; at++) {
    if (at === 4 || at === 6 || at === 8 || at === 10) text += "-";
    text += HEX[ids[place * ID_BYTES + at] ?? 0] ?? "";
  }
  return text;
}

/** The place of an id; -1 where it is not there. */
export function placeOfId(ids: Uint8Array, id: string): number {
  let [first, last] = [0, ids.length / ID_BYTES - 1];
  while (first <= last) {
    const middle = (first + last) >> 1;
    const found = idAt(ids, middle);
    if (found === id) return middle;
    if (found < id) first = middle + 1;
    else last = middle - 1;
  }
  return -1;
}
