const all = (selector, within = document) => [...within.querySelectorAll(selector)];
document.documentElement.classList.add("scripted");

// A link to a place opens what is folded around it.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = target; at; at = at.parentElement) if (at.matches("details")) at.open = true;
  target?.scrollIntoView();
}
addEventListener("hashchange", reveal);
// Following the same link again changes nothing in the address.
addEventListener("click", (event) => event.target.closest("a[href^='#']") && setTimeout(reveal));
reveal();

// The contents stand open where they have a column of their own.
const wide = matchMedia("(min-width: 105rem)");
const contents = document.querySelector(".contents");
const unfold = () => { contents.open = wide.matches; };
wide.addEventListener("change", unfold);
unfold();

// Tables: numbers and times by what they are, texts by the alphabet, empty cells last.
const SECONDS = { s: 1, min: 60, h: 3600 };
function key(text) {
  const found = /^[-−]?[\d,]+(?:\.\d+)?(?: (s|min|h)\b)?/.exec(text);
  return found && parseFloat(found[0].replaceAll(",", "").replace("−", "-")) * (SECONDS[found[1]] ?? 1);
}
for (const block of all(".lines")) {
  const body = block.querySelector("tbody");
  const rows = [...body.rows];
  const cell = (row, column) => row.cells[column].textContent.trim();
  const heads = all("thead th", block);
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const numeric = rows.every((row) => !cell(row, column) || key(cell(row, column)) !== null);
    const compare = numeric ? (a, b) => key(a) - key(b) : (a, b) => a.localeCompare(b, "en", { numeric: true });
    body.append(...rows.toSorted((a, b) => {
      const [first, second] = [cell(a, column), cell(b, column)];
      return first && second ? sign * compare(first, second) : Boolean(second) - Boolean(first);
    }));
  }));
  const choices = all("select", block);
  const choose = () => {
    for (const row of rows) {
      row.hidden = choices.some((one) => one.value && cell(row, one.dataset.column) !== one.value);
    }
    const shown = rows.filter((row) => !row.hidden).length;
    block.querySelector("output").textContent = `${shown} of ${rows.length} lines`;
  };
  choices.forEach((one) => one.addEventListener("change", choose));
  if (choices.length) choose();
}

// Pictures, enlarged.
const dialog = document.querySelector("dialog");
for (const button of all(".enlarge")) {
  button.addEventListener("click", () => {
    const [small, large] = [button.querySelector("img"), dialog.querySelector("img")];
    [large.src, large.alt, large.className] = [small.src, small.alt, small.className];
    dialog.querySelector("p").textContent = small.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

// Figures, drawn when they come into sight, in the colours of the page.
const dark = matchMedia("(prefers-color-scheme: dark)");
function look() {
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name));
  return {
    background: "transparent",
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: {
      domain: false, ticks: false, gridColor: line, labelColor: soft, titleColor: soft, titleFontWeight: "normal",
      labelPadding: 6,
    },
    legend: { orient: "bottom", columns: 1, labelColor: ink, titleColor: soft, labelLimit: 280, symbolStrokeWidth: 2 },
    text: { color: ink },
    rule: { color: soft },
  };
}
function draw(plot) {
  return vegaEmbed(plot, JSON.parse(plot.nextElementSibling.textContent), {
    mode: "vega-lite", renderer: "svg", config: look(), tooltip: { theme: dark.matches ? "dark" : "light" },
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: plot.dataset.name ?? "figure",
  });
}
const sight = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    sight.unobserve(entry.target);
    entry.target.classList.add("drawn");
    draw(entry.target);
  }
}, { rootMargin: "300px" });
all(".plot").forEach((plot) => sight.observe(plot));
dark.addEventListener("change", () => all(".drawn").forEach(draw));
