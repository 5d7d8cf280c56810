"use strict";
const tip = document.getElementById("tip");

function show(text, x, y) {
  tip.textContent = text;
  const box = tip.getBoundingClientRect(), gap = 14;
  const left = x + gap + box.width > innerWidth ? x - gap - box.width : x + gap;
  const top = y + gap + box.height > innerHeight ? y - gap - box.height : y + gap;
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  tip.style.visibility = "visible";
}

function hide() { tip.style.visibility = "hidden"; }

// A variant is one thing wherever it stands: its points, its row, its card light up together.
function light(row) {
  for (const other of document.querySelectorAll("[data-row]"))
    other.classList.toggle("lit", other.dataset.row === row);
}

for (const place of document.querySelectorAll("[data-row]")) {
  const title = place.querySelector("title");
  const text = title ? title.textContent : "";
  if (title) title.remove();  // the browser's own tip would cover ours
  if (text) place.setAttribute("aria-label", text);
  place.addEventListener("pointerenter", () => light(place.dataset.row));
  place.addEventListener("pointerleave", () => { light(null); hide(); });
  if (!text) continue;
  place.addEventListener("pointermove", event => show(text, event.clientX, event.clientY));
  place.addEventListener("focus", () => {
    const box = place.getBoundingClientRect();
    light(place.dataset.row);
    show(text, box.right, box.top);
  });
  place.addEventListener("blur", () => { light(null); hide(); });
}

// Training curves: the values of all trainings at the pointer's epoch.
for (const chart of document.querySelectorAll("svg[data-curves]")) {
  const data = JSON.parse(chart.dataset.curves), cursor = chart.querySelector(".cursor");
  const [low, high, start, end] = data.x;
  const epochs = [...new Set(data.lines.flatMap(line => line[2].map(point => point[0])))];
  const write = value => {
    const number = value * data.factor;
    return (data.factor === 100 ? number.toFixed(2) : Number(number.toPrecision(4))) + data.suffix;
  };
  chart.addEventListener("pointermove", event => {
    const box = chart.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    const at = low + (x - start) / (end - start) * (high - low);
    const epoch = epochs.reduce((a, b) => Math.abs(b - at) < Math.abs(a - at) ? b : a);
    const place = start + (epoch - low) / (high - low) * (end - start);
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.style.visibility = "visible";
    const values = data.lines.flatMap(([, name, points]) => {
      const found = points.find(point => point[0] === epoch);
      return found ? [[found[1], `${name}: ${write(found[1])}`]] : [];
    }).sort((a, b) => b[0] - a[0]);
    show([`epoch ${epoch}`, ...values.map(value => value[1])].join("\n"), event.clientX, event.clientY);
  });
  chart.addEventListener("pointerleave", () => { cursor.style.visibility = "hidden"; hide(); });
}

for (const key of document.querySelectorAll(".key[data-curve]")) {
  const dim = on => {
    for (const line of document.querySelectorAll("svg [data-curve]"))
      line.classList.toggle("dim", on && line.dataset.curve !== key.dataset.curve);
  };
  key.addEventListener("pointerenter", () => dim(true));
  key.addEventListener("pointerleave", () => dim(false));
}

// A heading sorts its table: numbers by value, names by letter, what was not measured last.
for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), body = button.closest("table").tBodies[0];
    const way = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heading.parentNode.children) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const value = row => row.children[heading.cellIndex].dataset.value;
    const compare = (a, b) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      const difference = Number(a) - Number(b);
      return way * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
    };
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
  });
}
