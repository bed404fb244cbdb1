// How the editor looks, in the colours of the page, which reach into its shadow tree as custom properties.
import { HighlightStyle } from "@codemirror/language";
import { EditorView } from "@codemirror/view";
import { tags } from "@lezer/highlight";

export const highlights = HighlightStyle.define([
  { tag: tags.propertyName, color: "var(--code-name)" },
  { tag: tags.string, color: "var(--code-text)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--code-value)" },
  { tag: tags.punctuation, color: "var(--bs-secondary-color)" },
]);

const popup = {
  border: "1px solid var(--bs-border-color)",
  borderRadius: "var(--bs-border-radius-sm)",
  background: "var(--surface)",
  color: "var(--bs-body-color)",
};

export const theme = EditorView.theme({
  "&": {
    border: "1px solid var(--bs-border-color)",
    borderRadius: "var(--bs-border-radius)",
    background: "var(--surface)",
    color: "var(--bs-body-color)",
    fontSize: "0.8125rem",
  },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "1px" },
  ".cm-scroller": {
    minHeight: "26rem",
    maxHeight: "70vh",
    fontFamily: "var(--bs-font-monospace)",
    lineHeight: "1.6",
  },
  ".cm-content": { caretColor: "var(--bs-body-color)" },
  ".cm-cursor": { borderLeftColor: "var(--bs-body-color)" },
  ".cm-gutters": { border: "none", background: "var(--bs-tertiary-bg)", color: "var(--bs-secondary-color)" },
  ".cm-activeLine, .cm-activeLineGutter": { background: "color-mix(in srgb, var(--accent) 7%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    background: "var(--accent-soft)",
  },
  "&.cm-focused .cm-matchingBracket": { background: "var(--accent-soft)", outline: "1px solid var(--accent)" },
  ".cm-foldPlaceholder": { ...popup, padding: "0 0.25rem" },
  ".cm-tooltip": { ...popup, boxShadow: "0 6px 20px rgb(0 0 0 / 18%)" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": {
    maxHeight: "15rem",
    fontFamily: "var(--bs-font-monospace)",
    fontSize: "0.8125rem",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "0.1875rem 0.5rem" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { background: "var(--accent)", color: "var(--surface)" },
  ".cm-completionDetail": { marginLeft: "0.75rem", fontStyle: "normal", opacity: "0.75" },
  ".cm-tooltip.cm-completionInfo": { maxWidth: "22rem", padding: "0.5rem 0.75rem", lineHeight: "1.45" },
  ".cm-diagnostic": { padding: "0.375rem 0.625rem", maxWidth: "30rem" },
  ".cm-diagnostic-error": { borderLeft: "4px solid var(--bs-danger)" },
  ".cm-diagnostic-warning": { borderLeft: "4px solid var(--bs-warning)" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bs-danger) 1px" },
  ".cm-lintRange-warning": { backgroundImage: "none", textDecoration: "underline wavy var(--bs-warning) 1px" },
  ".cm-panel": { background: "var(--surface)", color: "var(--bs-body-color)" },
  ".cm-panel.cm-panel-lint ul [aria-selected]": { background: "var(--accent-soft)" },
  ".cel-word": { color: "var(--code-name)" },
  ".cel-call": { color: "var(--code-call)" },
  ".cel-text": { color: "var(--code-text)" },
  ".cel-value": { color: "var(--code-value)" },
  ".cel-sign": { color: "var(--bs-body-color)", fontWeight: "600" },
});
