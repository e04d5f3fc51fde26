// Filters of tables and rows. They stand in the address, so that a view can be sent: #table=yan1-cpu&method=pcgrad
const form = document.getElementById("filters");
const words = text => text.toLowerCase().split(/\s+/).filter(Boolean);

function matches(row, wanted) {
  const open = row.dataset.open === "yes";
  if (wanted.method && !row.dataset.methods.split(" ").includes(wanted.method)) return false;
  if (wanted.rows && open !== (wanted.rows === "open")) return false;
  const text = row.querySelector("th").textContent.toLowerCase();
  return words(wanted.find).every(word => text.includes(word));
}

function filter() {
  const wanted = Object.fromEntries(new FormData(form));
  let shown = 0, all = 0;
  for (const table of document.querySelectorAll("[data-table]")) {
    const chosen = !wanted.table || wanted.table === table.dataset.table;
    let left = 0;
    for (const row of table.querySelectorAll("tbody tr")) {
      row.hidden = !(chosen && matches(row, wanted));
      left += !row.hidden;
      all += 1;
    }
    table.hidden = !left;
    shown += left;
  }
  form.querySelector("output").textContent = `${shown} of ${all} rows`;
}

function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const field of form.elements) {
    if (field.name) field.value = said.get(field.name) ?? "";
    if (field.tagName === "SELECT" && field.selectedIndex < 0) field.value = ""; // no such choice
  }
  filter();
}

form.addEventListener("input", () => {
  const said = [...new FormData(form)].filter(([, value]) => value);
  history.replaceState(null, "", `#${new URLSearchParams(said)}`);
  filter();
});
form.addEventListener("submit", event => event.preventDefault());
addEventListener("hashchange", fromAddress);
form.hidden = false;
fromAddress();
