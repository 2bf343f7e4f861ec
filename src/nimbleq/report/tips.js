// Tooltips at once instead of after a second, and on touch; without this script the browser's own remain.
"use strict";
const tip = document.createElement("div");
tip.className = "tooltip";
tip.hidden = true;
document.body.append(tip);
for (const mark of document.querySelectorAll(".tip")) {
  const title = mark.querySelector("title");
  mark.setAttribute("aria-label", title.textContent);
  mark.dataset.tip = title.textContent;
  title.remove();
}
const show = (event) => {
  const mark = event.target.closest ? event.target.closest(".tip") : null;
  tip.hidden = mark === null;
  if (mark === null) return;
  tip.textContent = mark.dataset.tip;
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 16 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 10}px`;
};
document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
