// Moments come in UTC; here they become the local time of the person who reads. The title keeps UTC.
"use strict";

const FORMATS = {
  day: { year: "numeric", month: "short", day: "numeric" },
  minute: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  second: {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23",
  },
  time: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
};

function localise() {
  const language = document.documentElement.lang || "en";
  for (const time of document.querySelectorAll("time[data-moment]")) {
    const value = new Date(time.dateTime);
    if (Number.isNaN(value.getTime())) continue;
    const locale = language === "en" ? "en-GB" : language;
    time.textContent = new Intl.DateTimeFormat(locale, FORMATS[time.dataset.moment] || FORMATS.minute).format(value);
  }
}

document.addEventListener("DOMContentLoaded", localise);
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-choose-all]");
  if (!button) return;
  const boxes = [...button.form.querySelectorAll(`input[name="${button.dataset.chooseAll}"]`)];
  const all = boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = !all;
});
