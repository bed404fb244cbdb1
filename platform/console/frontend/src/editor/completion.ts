// What can stand at the cursor: names of fields, decisions, and in conditions variables and functions, described.
import { type Completion, type CompletionContext, type CompletionResult, snippetCompletion } from "@codemirror/autocomplete";
import { syntaxTree } from "@codemirror/language";
import { conditionAt } from "./cel";

interface Variable {
  name: string;
  type: string;
  about: string;
  values: string;
}

interface Callable {
  name: string;
  shape: string;
  on: "" | "text" | "list";
  about: string;
}

export interface Language {
  variables: Variable[];
  functions: Callable[];
  fields: { document: string[]; rule: string[]; then: string[] };
}

type Source = (context: CompletionContext) => CompletionResult | null;

export function completion(language: Language): Source {
  return (context) => {
    const condition = conditionAt(context.state, context.pos);
    if (condition) return inCondition(language, context, context.state.sliceDoc(condition.from, context.pos));
    return inDocument(language, context);
  };
}

function inCondition(language: Language, context: CompletionContext, before: string): CompletionResult | null {
  const typed = /[A-Za-z_][\w.]*$/.exec(before)?.[0] ?? "";
  if (!typed && !context.explicit) return null;
  const at = typed.lastIndexOf(".");
  const base = resolved(at < 0 ? "" : typed.slice(0, at), before);
  const prefix = base ? `${base}.` : "";
  const options = [
    ...language.variables.filter((one) => childOf(one.name, prefix)).map((one) => variable(one, prefix)),
    ...language.functions.filter((one) => (at < 0 ? !one.on : one.on)).map(callable),
  ];
  return { from: context.pos - typed.length + at + 1, options, validFor: /^\w*$/ };
}

function childOf(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && !/[.[]/.test(name.slice(prefix.length));
}

/** `m` of `matches.exists(m, …)` stands for an entry of that list. */
function resolved(path: string, before: string): string {
  const [head = "", ...rest] = path.split(".");
  const loops = [...before.matchAll(/([\w.]+)\.(?:all|exists|exists_one|map|filter)\(\s*(\w+)\s*,/g)];
  const loop = loops.reverse().find((match) => match[2] === head);
  if (!loop) return path;
  return [`${resolved(loop[1] ?? "", before.slice(0, loop.index))}[]`, ...rest].join(".");
}

function variable(one: Variable, prefix: string): Completion {
  const info = [one.about, one.values].filter(Boolean).join(" ");
  return { label: one.name.slice(prefix.length), detail: one.type, type: "variable", info: info || undefined };
}

function callable(one: Callable): Completion {
  const shape = one.shape.replace(/^(?:text|list)\./, "");
  const inside = shape.slice(one.name.length + 1, -1);
  const template = `${one.name}(${inside.split(", ").map((part) => `\${${part.replaceAll("'", "")}}`).join(", ")})`;
  const quoted = inside.startsWith("'") ? template.replace("(${", "('${").replace("})", "}')") : template;
  return snippetCompletion(quoted, { label: one.name, detail: one.shape, type: "function", info: one.about, boost: -1 });
}

function inDocument(language: Language, context: CompletionContext): CompletionResult | null {
  const node = syntaxTree(context.state).resolveInner(context.pos, -1);
  if (node.name === "PropertyName") {
    const known = depthOf(node) > 1 ? language.fields.rule : language.fields.document;
    return { from: node.from + 1, options: known.map((label) => ({ label, type: "property" })), validFor: /^\w*$/ };
  }
  const name = node.parent?.firstChild;
  if (node.name !== "String" || !name || context.state.sliceDoc(name.from, name.to) !== '"then"') return null;
  return { from: node.from + 1, options: language.fields.then.map((label) => ({ label })), validFor: /^\w*$/ };
}

function depthOf(node: { name: string; parent: unknown } | null): number {
  let depth = 0;
  for (let up = node; up; up = up.parent as typeof node) if (up.name === "Object") depth += 1;
  return depth;
}
