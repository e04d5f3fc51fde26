// What stands behind a cell or a point. The address names it, so it can be linked to: #sst/cell/3, #sts/point/17.
const behind = JSON.parse(document.getElementById("examples").textContent);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never as markup: these are strangers' words
  if (className) made.className = className;
  return made;
}

function example(one, beside) {
  const item = element("li");
  const texts = element("span", undefined, "texts");
  for (const text of one.texts) texts.append(element("span", text));
  item.append(texts, element("span", `${one.id}${beside}`, "soft small"));
  return item;
}

function show(task, kind, number) {
  const panel = [...document.querySelectorAll("[data-of]")].find(each => each.dataset.of === task);
  const of = Object.hasOwn(behind, task) ? behind[task] : undefined;
  const found = of && of[kind] && of[kind][number];
  if (!panel || !found) return;
  const list = element("ul");
  let title;
  if (kind === "cell") {
    const more = found.count > found.examples.length ? `; the ${found.examples.length} it is surest of` : "";
    title = `${found.label} said to be ${found.prediction}: ${found.count.toLocaleString("en")}${more}`;
    list.append(...found.examples.map(one => example(one, `, confidence ${one.probability.toFixed(3)}`)));
  } else {
    const near = of.point.filter(one => one.label === found.label && one.prediction === found.prediction);
    const there = [found, ...near.filter(one => one !== found)].slice(0, 6); // points may lie on one another
    const more = near.length > 1 ? `: ${near.length} examples${near.length > 6 ? "; 6 of them" : ""}` : "";
    title = `true ${found.label}, predicted ${found.prediction}${more}`;
    list.append(...there.map(one => example(one, "")));
  }
  panel.replaceChildren(element("p", title), list);
  for (const mark of document.querySelectorAll("[data-task]")) {
    if (mark.dataset.task !== task) continue;
    const chosen = (kind === "cell" ? mark.dataset.cell : mark.dataset.example) === String(number);
    if (chosen || mark.hasAttribute("aria-pressed")) mark.setAttribute("aria-pressed", chosen);
  }
}

function choose(mark) {
  const kind = mark.dataset.cell === undefined ? "point" : "cell";
  const number = kind === "cell" ? mark.dataset.cell : mark.dataset.example;
  history.replaceState(null, "", `#${encodeURIComponent(mark.dataset.task)}/${kind}/${number}`);
  show(mark.dataset.task, kind, number);
}

document.addEventListener("click", event => {
  const mark = event.target.closest("[data-task]");
  if (mark) choose(mark);
});
document.addEventListener("keydown", event => {
  const mark = event.target.closest("circle[data-task]");
  if (mark && (event.key === "Enter" || event.key === " ")) {
    choose(mark);
    event.preventDefault();
  }
});

function fromAddress() {
  const [task, kind, number] = location.hash.slice(1).split("/");
  if (number === undefined) return;
  try {
    show(decodeURIComponent(task), kind, number);
  } catch {
    return; // no address of ours
  }
}
addEventListener("hashchange", fromAddress);
fromAddress();
