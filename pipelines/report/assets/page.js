(() => {
  "use strict";
  const root = document.documentElement;

  // Theme: what the system says, unless the reader chose (or the address says #dark or #light).
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("synth-theme"); } catch { return null; } };
  const chosen = { "#dark": "dark", "#light": "light" }[location.hash] || remembered();
  if (chosen) root.dataset.theme = chosen;
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const name = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("synth-theme", root.dataset.theme); } catch { /* a file may not remember */ }
    name();
  });
  system.addEventListener("change", name);
  name();

  // Copy buttons.
  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* not offered to files everywhere */ }
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async (event) => {
      event.preventDefault();
      const done = await copy(document.getElementById(button.dataset.copy).textContent);
      button.textContent = done ? "Copied" : "Select and copy by hand";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }
  const all = document.getElementById("open-all");
  if (all) {
    all.hidden = false;
    all.addEventListener("click", () => {
      const items = [...document.querySelectorAll(".problems details")];
      const open = items.some((item) => !item.open);
      for (const item of items) item.open = open;
      all.textContent = open ? "Close all" : "Open all";
    });
  }

  // Charts. Colours are CSS variables, so a change of theme needs no new drawing. `ast` keeps Vega from making code out of strings.
  const config = {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      domainColor: "var(--line)", tickColor: "var(--line)", gridColor: "var(--line)", gridOpacity: 0.7, labelColor: "var(--quiet)",
      titleColor: "var(--quiet)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelPadding: 6, titlePadding: 8,
    },
    axisX: { grid: false },
    legend: { labelColor: "var(--ink)", titleColor: "var(--quiet)", labelFontSize: 12.5, symbolSize: 80, symbolType: "circle", symbolOpacity: 1, rowPadding: 3, offset: 10 },
  };
  const horizontal = new Set(["domains", "gains", "fates", "verdicts", "seconds"]);
  const options = { actions: false, renderer: "svg", ast: true, tooltip: { theme: "custom" }, loader: { load: () => Promise.reject(new Error("nothing is loaded")) } };
  const longest = (part) => {  // name of a colour, in characters
    if (!part || typeof part !== "object") return 0;
    const own = part.color && part.color.scale && part.color.scale.domain ? Math.max(...part.color.scale.domain.map((name) => name.length)) : 0;
    return Math.max(own, longest(part.encoding), ...(part.layer || []).map(longest));
  };
  const draw = async () => {
    const specs = JSON.parse(document.getElementById("charts").textContent);
    let drawn = 0, failed = 0;
    for (const place of document.querySelectorAll(".chart")) {
      const id = place.dataset.chart;
      const spec = { width: "container", autosize: { type: "fit-x", contains: "padding" }, ...specs[id] };
      const legend = { ...config.legend, columns: Math.max(1, Math.floor((place.clientWidth - (horizontal.has(id) ? 120 : 40)) / (34 + 7 * longest(spec)))) };
      const axes = horizontal.has(id) ? { axisX: { grid: true }, axisY: { grid: false } } : {};
      const own = { ...config, ...axes, legend };
      try {
        await vegaEmbed(place, spec, { ...options, config: own });
        drawn += 1;
      } catch (error) {
        failed += 1;
        console.error(`chart ${id}: ${error}`);
        place.innerHTML = "";
        const sorry = place.appendChild(document.createElement("p"));
        sorry.className = "failed";
        sorry.textContent = "This chart could not be drawn; the numbers are below.";
      }
    }
    root.dataset.charts = `${drawn} drawn, ${failed} failed`;
  };
  draw();
})();
