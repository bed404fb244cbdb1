// Rows of a metadata filter: add one, take one away.
import { fromTemplate, need } from "./dom";

export function startFilters(): void {
  document.addEventListener("click", (event) => {
    const target = event.target as Element;
    if (target.closest("[data-add-condition]")) {
      const row = fromTemplate<HTMLElement>("condition");
      need("#conditions").append(row);
      need<HTMLElement>("input, select", row).focus();
    }
    target.closest("[data-remove-condition]")?.closest("[data-condition]")?.remove();
  });
}
