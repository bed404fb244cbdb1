// The texts of scripts in the language of the page. Templates and the server use gettext; see docs/translating.md.
import zh from "./words.zh.json";

type Values = Record<string, string | number>;

const CATALOGUES: Record<string, Record<string, string>> = { "zh-hans": zh };

/** The language of the page, as Intl knows it. */
export const language = document.documentElement.lang || "en";

const catalogue = CATALOGUES[language.toLowerCase()] ?? {};

/** The text in the page's language, with `{name}` replaced by values. */
export function t(text: string, values: Values = {}): string {
  return (catalogue[text] || text).replace(/\{(\w+)\}/g, (whole, name: string) =>
    name in values ? shown(values[name] ?? "") : whole,
  );
}

/** One of two texts by `{count}`: `nt("{count} file", "{count} files", files.length)`. */
export function nt(one: string, many: string, count: number, values: Values = {}): string {
  return t(count === 1 ? one : many, { ...values, count });
}

const numbers = new Intl.NumberFormat(language);

/** A number with its thousands grouped. */
export function shown(value: string | number): string {
  return typeof value === "number" ? numbers.format(value) : value;
}

/** A code of the server in words; what people have named themselves stays as it is. */
export function codeName(code: string): string {
  return CODES[code] ?? code;
}

const CODES: Record<string, string> = {
  text: t("text"),
  image: t("image"),
  audio: t("audio"),
  video: t("video"),
  allow: t("allowed"),
  label: t("labelled"),
  review: t("to be reviewed"),
  block: t("blocked"),
  likely_synthetic: t("likely synthetic"),
  likely_manipulated: t("likely manipulated"),
  inconclusive: t("inconclusive"),
  no_evidence: t("no evidence"),
  not_examined: t("not examined"),
};
