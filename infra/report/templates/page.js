// Draws the plots that lie in the page as JSON, repaints them for dark and for print, and lets a
// <select data-views> choose the values that a plot shows.
(() => {
  const read = (element) => JSON.parse(element.textContent);
  const darkOfLight = read(document.getElementById("dark-of-light"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const PRINT_WIDTH = 680;
  const plots = new Map();
  for (const element of document.querySelectorAll("script[data-plot]")) {
    plots.set(element.dataset.plot, read(element));
  }

  const coloured = (value) => {
    if (Array.isArray(value)) return value.map(coloured);
    if (value === null || typeof value !== "object") return darkOfLight[value] || value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, coloured(part)]));
  };

  const draw = (id, printing) => {
    const painted = dark.matches && !printing ? coloured(plots.get(id)) : structuredClone(plots.get(id));
    if (printing) painted.layout.width = PRINT_WIDTH;
    const config = { responsive: true, displayModeBar: false, displaylogo: false };
    Plotly.react(id, painted.data, painted.layout, config);
  };
  const drawAll = (printing) => plots.forEach((_, id) => draw(id, printing));

  for (const select of document.querySelectorAll("select[data-views]")) {
    const id = select.dataset.views;
    const views = read(document.querySelector(`script[data-views-of="${id}"]`));
    select.addEventListener("change", () => {
      plots.get(id).data.forEach((trace, number) => { trace.y = views[select.value][number]; });
      draw(id, false);
    });
    select.value = "0"; // browsers keep a choice over a reload, the plot does not
  }

  drawAll(false);
  dark.addEventListener("change", () => drawAll(false));
  addEventListener("beforeprint", () => drawAll(true));
  addEventListener("afterprint", () => drawAll(false));
})();
