// Conditions in CEL are texts of the JSON document; here their parts get colours of their own.
import { syntaxTree } from "@codemirror/language";
import { type EditorState, RangeSetBuilder } from "@codemirror/state";
import { Decoration, type DecorationSet, type EditorView, ViewPlugin, type ViewUpdate } from "@codemirror/view";

export interface Span {
  from: number;
  to: number;
}

const PART = /(\\"(?:(?!\\").)*\\"|'[^']*')|(\b\d+(?:\.\d+)?\b|\b(?:true|false|null)\b)|([A-Za-z_]\w*)(?=\s*\()|([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*?)(?=\.\w+\s*\(|[^\w.]|$)|(&&|\|\||[=!<>]=?|[-+*/%?:])/g;
const KINDS = ["text", "value", "call", "word", "sign"];
const MARKS = KINDS.map((kind) => Decoration.mark({ class: `cel-${kind}` }));

/** The inside of the condition at a position, if it stands in one. */
export function conditionAt(state: EditorState, position: number): Span | null {
  const node = syntaxTree(state).resolveInner(position, -1);
  return node.name === "String" ? insideOf(state, node.parent, node) : null;
}

function insideOf(state: EditorState, property: { firstChild: Span | null; name: string } | null, value: Span): Span | null {
  if (property?.name !== "Property" || !property.firstChild) return null;
  const name = state.sliceDoc(property.firstChild.from, property.firstChild.to);
  if (name !== '"when"') return null;
  return { from: value.from + 1, to: Math.max(value.from + 1, value.to - 1) };
}

function marksOf(view: EditorView): DecorationSet {
  const builder = new RangeSetBuilder<Decoration>();
  for (const { from, to } of view.visibleRanges) {
    syntaxTree(view.state).iterate({
      from,
      to,
      enter: (node) => {
        if (node.name !== "String") return;
        const inside = insideOf(view.state, node.node.parent, node);
        if (inside) mark(builder, inside.from, view.state.sliceDoc(inside.from, inside.to));
      },
    });
  }
  return builder.finish();
}

function mark(builder: RangeSetBuilder<Decoration>, from: number, text: string): void {
  for (const match of text.matchAll(PART)) {
    const kind = match.slice(1).findIndex((part) => part !== undefined);
    const decoration = MARKS[kind];
    if (decoration && match[0]) builder.add(from + match.index, from + match.index + match[0].length, decoration);
  }
}

export const expressions = ViewPlugin.fromClass(
  class {
    decorations: DecorationSet;

    constructor(view: EditorView) {
      this.decorations = marksOf(view);
    }

    update(update: ViewUpdate): void {
      const grown = syntaxTree(update.startState) !== syntaxTree(update.state);
      if (update.docChanged || update.viewportChanged || grown) this.decorations = marksOf(update.view);
    }
  },
  { decorations: (plugin) => plugin.decorations },
);
