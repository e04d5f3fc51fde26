"use strict";
// The marks of a picture are one stop for the tab key; within them the arrow keys go on, Home and End to the ends.
for (const group of document.querySelectorAll("[data-walk]")) {
  const marks = [...group.querySelectorAll("[tabindex]")];
  const steps = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity};
  group.addEventListener("keydown", event => {
    const at = marks.indexOf(event.target.closest("[tabindex]"));
    if (at < 0 || !(event.key in steps)) return;
    const next = marks[Math.max(0, Math.min(marks.length - 1, at + steps[event.key]))];
    marks[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    event.preventDefault();
  });
}
