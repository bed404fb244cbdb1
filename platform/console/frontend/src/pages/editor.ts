// The editor of policies: JSON with CEL inside, checked while one types. Without it the text field works as it is.
import { closeBrackets, autocompletion, completionKeymap, closeBracketsKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { json } from "@codemirror/lang-json";
import { bracketMatching, foldGutter, foldKeymap, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, lintKeymap } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { find, need } from "../dom";
import { expressions } from "../editor/cel";
import { checking } from "../editor/checking";
import { completion, type Language } from "../editor/completion";
import { highlights, theme } from "../editor/theme";
import { t } from "../words";

const TEXTS: Record<string, string> = {
  "Control character": t("Control character"),
  "Fold line": t("Fold line"),
  "Unfold line": t("Unfold line"),
  "folded code": t("folded code"),
  Completions: t("Completions"),
  Diagnostics: t("Problems"),
};

async function start(box: HTMLElement): Promise<void> {
  const field = need<HTMLTextAreaElement>("textarea", box);
  // CodeMirror's styles are sheets of the document only inside a shadow tree; elsewhere they would be inline ones.
  if (!("adoptedStyleSheets" in Document.prototype)) return;
  const words = (await (await fetch(box.dataset.language ?? "")).json()) as Language;
  const label = need<HTMLLabelElement>("label", box);
  const host = document.createElement("div");
  host.className = "editor-host";
  const root = host.attachShadow({ mode: "open" });
  const view = new EditorView({
    state: EditorState.create({ doc: field.value, extensions: extensions(box, field, label, words) }),
    root,
    parent: root,
  });
  field.after(host);
  field.hidden = true;
  label.removeAttribute("for");
  label.addEventListener("click", () => view.focus());
  need<HTMLElement>("[data-editor-hint]", box).hidden = false;
  if (field.classList.contains("is-invalid")) view.focus();
}

/** What goes: the editor may not have heard yet of a selection that was made a moment ago. */
function replaced(event: InputEvent, view: EditorView): { from: number; to: number } {
  const [range] = event.getTargetRanges();
  if (!range || !view.contentDOM.contains(range.startContainer)) return view.state.selection.main;
  return {
    from: view.posAtDOM(range.startContainer, range.startOffset),
    to: view.posAtDOM(range.endContainer, range.endOffset),
  };
}

/** A text over a selection: left to the browser, it would keep the colours of what goes as inline styles. */
const replacing = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { from, to } = replaced(event, view);
    const text = event.data;
    if (event.inputType !== "insertText" || text === null || from === to || view.composing) return false;
    const insert = () =>
      view.state.update({
        changes: { from, to, insert: text },
        selection: { anchor: from + text.length },
        userEvent: "input.type",
        scrollIntoView: true,
      });
    const handlers = view.state.facet(EditorView.inputHandler);
    if (!handlers.some((handle) => handle(view, from, to, text, insert))) view.dispatch(insert());
    event.preventDefault();
    return true;
  },
});

function extensions(box: HTMLElement, field: HTMLTextAreaElement, label: HTMLLabelElement, words: Language) {
  return [
    lineNumbers(),
    foldGutter(),
    history(),
    drawSelection(),
    indentOnInput(),
    bracketMatching(),
    closeBrackets(),
    autocompletion({ override: [completion(words)], icons: false }),
    highlightActiveLine(),
    json(),
    syntaxHighlighting(highlights),
    expressions,
    lintGutter(),
    checking(box.dataset.check ?? "", need("[data-editor-problems]", box)),
    theme,
    replacing,
    keymap.of([
      ...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...foldKeymap,
      ...completionKeymap, ...lintKeymap, indentWithTab,
    ]),
    EditorView.lineWrapping,
    EditorView.contentAttributes.of({ "aria-label": label.textContent ?? "", spellcheck: "false", tabindex: "0" }),
    EditorState.phrases.of(TEXTS),
    EditorView.updateListener.of((update) => {
      if (update.docChanged) field.value = update.state.doc.toString();
    }),
  ];
}

const box = find<HTMLElement>("[data-editor]");
if (box) void start(box);
