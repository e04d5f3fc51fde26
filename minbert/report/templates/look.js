// Draws the numbers that the page holds, and computes none. What is chosen stands in the address:
// #layer=3&head=5&word=2, counted from 1.
const data = JSON.parse(document.getElementById("data").textContent);
const choices = document.getElementById("choices");
const chosen = {...data.start, word: 1, numbers: false};
const HIDDEN = -32768; // minus infinity
const ROOM = 42; // pixels that a number needs; where a matrix has fewer for a column, its cells are bare

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never as markup: these are strangers' words
  if (className) made.className = className;
  return made;
}

// ---- numbers

function whole(kept) { // the 16-bit integers behind a tensor
  if (!kept.whole) {
    const bytes = Uint8Array.from(atob(kept.data), letter => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    kept.whole = Int16Array.from({length: bytes.length / 2}, (_, at) => view.getInt16(2 * at, true));
  }
  return kept.whole;
}

function figure(kept, at) {
  const value = whole(kept)[at];
  if (value === HIDDEN) return "−∞";
  return (value / 10 ** kept.places).toFixed(Math.max(0, kept.places)).replace("-", "−");
}

function share(kept, at) { // of the colour, -1 to 1
  const value = whole(kept)[at];
  return value === HIDDEN ? 0 : Math.max(-1, Math.min(1, value / 10 ** kept.places / (kept.most || 1)));
}

function sheet(kept, head, form) { // where a head's or a whole tensor's [rows, columns] lie
  const [rows, columns] = kept.shape.slice(-2);
  if (kept.shape.length === 3) return {rows, columns, at: (r, c) => (head * rows + r) * columns + c};
  if (form !== "heads") return {rows, columns, at: (r, c) => r * columns + c};
  const size = columns / data.heads;
  return {rows, columns: size, at: (r, c) => r * columns + head * size + c};
}

const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = part => `rgba(${style(part < 0 ? "--minus" : "--shade")}, ${Math.abs(part).toFixed(3)})`;

// ---- drawing

function paint(canvas, kept, where, most = 1) {
  canvas.width = where.columns;
  canvas.height = where.rows;
  const brush = canvas.getContext("2d");
  const shades = [style("--shade"), style("--minus")];
  for (let r = 0; r < where.rows; r++) {
    for (let c = 0; c < where.columns; c++) {
      const part = most === 1 ? share(kept, where.at(r, c)) : whole(kept)[where.at(r, c)] / most;
      brush.fillStyle = `rgba(${shades[part < 0 ? 1 : 0]}, ${Math.abs(part).toFixed(3)})`;
      brush.fillRect(c, r, 1, 1);
    }
  }
}

function matrix(kept, where, rows, columns, probabilities, holder, said) { // a table, tokens by tokens
  const bare = (holder.clientWidth - 90) / columns.length < ROOM;
  const table = element("table", undefined, `heat${bare ? " dense" : ""}`);
  table.style.setProperty("--columns", columns.length);
  table.append(element("caption", "rows look at columns", "unseen"));
  const head = table.createTHead().insertRow();
  head.append(element("td"));
  for (const word of columns) {
    const cell = element("th");
    cell.scope = "col";
    cell.append(element("span", word));
    head.append(cell);
  }
  const body = table.createTBody();
  rows.forEach((word, r) => {
    const row = body.insertRow();
    const name = element("th", word);
    name.scope = "row";
    row.append(name);
    columns.forEach((_, c) => {
      const at = where.at(r, c), text = figure(kept, at);
      const part = probabilities ? whole(kept)[at] / 10 ** kept.places : share(kept, at);
      const cell = element("td", text);
      cell.title = `${word} → ${columns[c]}: ${text}`;
      if (whole(kept)[at] === HIDDEN) cell.className = "gone";
      else cell.style.background = colour(part);
      if (Math.abs(part) > 0.62) cell.className = "full";
      row.append(cell);
    });
  });
  const tell = event => { if (event.target.title) said.textContent = event.target.title; };
  table.addEventListener("pointerover", tell);
  table.addEventListener("click", tell);
  return table;
}

function table(kept, where, rows, columns) { // all numbers that there are; columns have names or numbers
  const made = element("table", undefined, "figures");
  const head = made.createTHead().insertRow();
  head.append(element("td"));
  for (let c = 0; c < where.columns; c++) {
    const cell = element("th", columns ? columns[c] : c);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  for (let r = 0; r < where.rows; r++) {
    const row = body.insertRow();
    const name = element("th", rows[r]);
    name.scope = "row";
    row.append(name);
    for (let c = 0; c < where.columns; c++) row.append(element("td", figure(kept, where.at(r, c))));
  }
  const around = element("div", undefined, "scroll");
  around.tabIndex = 0;
  around.setAttribute("role", "region");
  around.append(made);
  return around;
}

function strip(kept, where, rows, said) { // a row of colours a token, with a cursor for the number of one
  const around = element("div", undefined, `strip${where.rows > 16 ? " tight" : ""}`);
  const names = element("ol");
  names.setAttribute("aria-hidden", "true");
  for (let r = 0; r < where.rows; r++) names.append(element("li", rows[r]));
  const canvas = element("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${where.rows} rows, ${where.columns} columns; arrow keys read its numbers`);
  paint(canvas, kept, where);
  const at = {r: 0, c: 0};
  const tell = () => { said.textContent = `${rows[at.r]}, column ${at.c}: ${figure(kept, where.at(at.r, at.c))}`; };
  const move = (r, c) => {
    at.r = Math.max(0, Math.min(where.rows - 1, r));
    at.c = Math.max(0, Math.min(where.columns - 1, c));
    tell();
  };
  const point = event => {
    const box = canvas.getBoundingClientRect();
    move(Math.floor((event.clientY - box.top) / box.height * where.rows),
      Math.floor((event.clientX - box.left) / box.width * where.columns));
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("focus", () => said.setAttribute("aria-live", "polite"));
  canvas.addEventListener("keydown", event => {
    const steps = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]};
    if (!(event.key in steps)) return;
    move(at.r + steps[event.key][0], at.c + steps[event.key][1]);
    event.preventDefault();
  });
  around.append(names, canvas);
  return around;
}

const words = (sentence, count) => sentence.inputs.slice(0, count).map(input => input.token);

function drawTensor(holder) {
  const name = holder.dataset.tensor, sentence = data.sentences[holder.dataset.text];
  const found = data.values[name][holder.dataset.text];
  const kept = found[found.length > 1 ? chosen.layer : 0];
  const where = sheet(kept, chosen.head, data.kinds[name]);
  const rows = data.kinds[name] === "batch" ? ["[CLS]"] : sentence.tokens;
  const said = holder.querySelector("output"), place = holder.querySelector(".drawn");
  said.textContent = "";
  let drawn;
  const columns = ["scores", "masked", "softmax"].includes(name) ? words(sentence, where.columns) : undefined;
  if (chosen.numbers) drawn = table(kept, where, rows, columns);
  else if (columns) {
    drawn = matrix(kept, where, rows, columns, name === "softmax", place, said);
  } else drawn = strip(kept, where, rows, said);
  place.replaceChildren(drawn);
}

// ---- attention on the words

const attention = view => (view.weights === "pretrained" ? data.before : data.values.softmax)[view.text];

function drawView(holder) {
  const view = data.views[holder.dataset.view], sentence = data.sentences[view.text];
  const kept = attention(view)[chosen.layer], where = sheet(kept, chosen.head);
  const columns = words(sentence, where.columns), from = Math.min(chosen.word, sentence.tokens.length - 1);
  const group = holder.querySelector(".words");
  if (!group.children.length) {
    sentence.tokens.forEach((token, at) => {
      const button = element("button");
      button.type = "button";
      button.dataset.word = at;
      button.append(token, element("small"));
      group.append(button);
    });
  }
  [...group.children].forEach((button, at) => {
    const part = whole(kept)[where.at(from, at)] / 10 ** kept.places;
    button.style.setProperty("--share", part);
    button.classList.toggle("full", part > 0.62);
    button.setAttribute("aria-pressed", at === from);
    button.tabIndex = at === from ? 0 : -1;
    button.querySelector("small").textContent = figure(kept, where.at(from, at));
  });
  const order = columns.map((_, at) => at).sort((a, b) => whole(kept)[where.at(from, b)] - whole(kept)[where.at(from, a)]);
  const most = order.slice(0, 3).map(at => `${columns[at]} ${figure(kept, where.at(from, at))}`);
  const said = holder.querySelector(".said"), place = holder.querySelector(".matrix");
  said.textContent = `“${columns[from]}” takes most from ${most.join(", ")}.`;
  const drawn = chosen.numbers ? table(kept, where, sentence.tokens, columns) :
    matrix(kept, where, sentence.tokens, columns, true, place, said);
  drawn.querySelectorAll("tbody tr")[from].classList.add("chosen");
  place.replaceChildren(drawn);
}

function drawHeads() {
  for (const button of document.querySelectorAll(".heads button")) {
    const kept = attention(data.views[0])[button.dataset.layer];
    paint(button.firstElementChild, kept, sheet(kept, Number(button.dataset.head)), 10 ** kept.places);
  }
}

// ---- choosing

function draw(all) {
  for (const field of ["layer", "head"]) {
    choices.elements[field].value = chosen[field];
    for (const shown of document.querySelectorAll(`[data-shown=${field}]`)) shown.textContent = chosen[field] + 1;
  }
  choices.elements.numbers.setAttribute("aria-pressed", chosen.numbers);
  choices.querySelector("output").textContent = `looks at: ${data.looks[0][chosen.layer][chosen.head]}`;
  for (const button of document.querySelectorAll(".heads button")) {
    const here = Number(button.dataset.layer) === chosen.layer && Number(button.dataset.head) === chosen.head;
    button.setAttribute("aria-pressed", here);
    button.tabIndex = here ? 0 : -1;
  }
  document.querySelectorAll("[data-view]").forEach(drawView);
  if (all) document.querySelectorAll("[data-tensor]").forEach(drawTensor);
}

function choose(change, all = true) {
  Object.assign(chosen, change);
  const address = new URLSearchParams({layer: chosen.layer + 1, head: chosen.head + 1, word: chosen.word + 1});
  if (chosen.numbers) address.set("numbers", "yes");
  history.replaceState(null, "", `#${address}`);
  draw(all);
}

choices.addEventListener("change", event => choose({[event.target.name]: Number(event.target.value)}));
choices.addEventListener("submit", event => event.preventDefault());
document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.name === "numbers") choose({numbers: !chosen.numbers});
  else if (button.dataset.word) choose({word: Number(button.dataset.word)}, false);
  else if (button.dataset.layer) choose({layer: Number(button.dataset.layer), head: Number(button.dataset.head)});
  else if (button.dataset.go) {
    const [layer, head] = button.dataset.go.split(",").map(Number);
    choose({layer, head});
  }
});
document.addEventListener("keydown", event => { // within heads and within words, the arrow keys choose
  const group = event.target.closest(".heads, .words");
  if (!group || event.target.tagName !== "BUTTON") return;
  const buttons = [...group.querySelectorAll("button")];
  const down = group.className === "heads" ? data.heads : 1;
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: down, ArrowUp: -down};
  const next = event.key === "Home" ? 0 : event.key === "End" ? buttons.length - 1 :
    buttons.indexOf(event.target) + (steps[event.key] || 0);
  if (!(event.key in steps || event.key === "Home" || event.key === "End")) return;
  event.preventDefault();
  if (!buttons[next]) return;
  buttons[next].click();
  buttons[next].focus();
});

function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const limits = {layer: data.layers, head: data.heads, word: 1000};
  for (const [field, limit] of Object.entries(limits)) {
    const value = Number(said.get(field));
    if (Number.isInteger(value) && value >= 1 && value <= limit) chosen[field] = value - 1;
  }
  chosen.numbers = said.get("numbers") === "yes";
  draw(true);
}
addEventListener("hashchange", () => { if (location.hash.includes("=")) fromAddress(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawHeads(); draw(true); });
let width = innerWidth;
addEventListener("resize", () => {
  if (width === innerWidth) return; // a phone's address bar comes and goes
  width = innerWidth;
  draw(true);
});
drawHeads();
fromAddress();
