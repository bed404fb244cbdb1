// What the server has to say about the document, a moment after the last stroke, each thing at its place.
import { type Diagnostic, forEachDiagnostic, linter, setDiagnosticsEffect } from "@codemirror/lint";
import type { Extension } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { csrfToken } from "../dom";
import { nt, t } from "../words";

interface Problem {
  level: "error" | "warning";
  rule: string;
  detail: string;
  from: number;
  to: number;
}

const QUIET_MS = 350;

export function checking(address: string, summary: HTMLElement): Extension {
  const check = async (view: EditorView): Promise<Diagnostic[]> => {
    const text = view.state.doc.toString();
    try {
      return (await ask(address, text)).map((problem) => diagnosticOf(problem, text.length));
    } catch {
      summary.hidden = false;
      summary.textContent = t("The document could not be checked just now; it is checked again when you save it.");
      return [];
    }
  };
  const tell = EditorView.updateListener.of((update) => {
    const told = update.transactions.some((one) => one.effects.some((effect) => effect.is(setDiagnosticsEffect)));
    if (told) summarise(update.view, summary);
  });
  return [linter(check, { delay: QUIET_MS }), tell];
}

async function ask(address: string, text: string): Promise<Problem[]> {
  const answer = await fetch(address, {
    method: "POST",
    // Not FormData, which would turn line ends into two characters and so move every place.
    body: new URLSearchParams({ document: text }),
    headers: { "X-CSRFToken": csrfToken(), Accept: "application/json" },
  });
  if (answer.status === 401) window.location.reload();
  if (!answer.ok) throw new Error(String(answer.status));
  return ((await answer.json()) as { problems: Problem[] }).problems;
}

function diagnosticOf(problem: Problem, length: number): Diagnostic {
  const from = Math.min(problem.from, length);
  const message = problem.rule ? `${problem.rule}: ${problem.detail}` : problem.detail;
  return { from, to: Math.min(Math.max(problem.to, from), length), severity: problem.level, message };
}

function summarise(view: EditorView, summary: HTMLElement): void {
  let errors = 0;
  let warnings = 0;
  let first: { message: string; line: number } | undefined;
  forEachDiagnostic(view.state, (one, from) => {
    if (one.severity === "error") errors += 1;
    else warnings += 1;
    first ??= { message: one.message, line: view.state.doc.lineAt(from).number };
  });
  const counted = [
    errors ? nt("{count} error", "{count} errors", errors) : "",
    warnings ? nt("{count} warning", "{count} warnings", warnings) : "",
  ].filter(Boolean);
  summary.hidden = false;
  summary.dataset.level = errors ? "error" : warnings ? "warning" : "fine";
  summary.textContent = first
    ? `${counted.join(", ")}. ${t("Line {line}: {message}", first)}`
    : t("No problems found.");
}
