"use strict";
(() => {
  const held = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")];
  const choices = [...document.querySelectorAll("select[data-choose]")];
  const keys = [...document.querySelectorAll("[data-key]")];
  const away = new Set();
  let printing = false;

  // "$name" or "$name/opacity" stands for a colour of the palette, so that one figure serves light and dark.
  const paint = (value, colours) => {
    if (Array.isArray(value)) return value.map((part) => paint(part, colours));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, paint(part, colours)]));
    const named = typeof value === "string" && /^\$([a-z]+(?:-\d)?)(?:\/([\d.]+))?$/.exec(value);
    if (!named || !(named[1] in colours)) return value;
    const hex = colours[named[1]];
    if (!named[2]) return hex;
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${parts.join(",")},${named[2]})`;
  };

  // Which of a picture's figures: what its choices add up to.
  const chosen = (plot) => {
    const own = [...plot.parentElement.querySelectorAll("select[data-choose]")];
    return own.length ? own.reduce((sum, choice) => sum + Number(choice.value), 0) : Number(plot.dataset.attack);
  };

  const draw = (plot) => {
    const figure = held.pictures[plot.dataset.picture][chosen(plot)];
    const empty = plot.parentElement.querySelector(".empty");
    empty.hidden = Boolean(figure);
    plot.hidden = !figure;
    if (!figure) return;
    const groups = new Set(figure.data.map((trace) => trace.legendgroup));
    for (const key of plot.parentElement.querySelectorAll("[data-key]"))
      key.parentElement.hidden = !groups.has(key.dataset.key);
    const { data, layout } = paint(figure, dark.matches && !printing ? held.dark : held.light);
    const narrow = plot.clientWidth < 560 && !printing;
    layout.font.family = getComputedStyle(document.body).fontFamily;
    layout.width = printing ? 660 : plot.clientWidth;
    if (narrow) {
      layout.font.size = 12;
      layout.margin = { ...layout.margin, l: Math.min(layout.margin.l, 46), r: Math.min(layout.margin.r, 42) };
      layout.xaxis.title.font = layout.yaxis.title.font = { size: 12 };
    }
    // A limit stands for several methods (in meta), and goes with the last of them.
    const gone = (trace) => away.has(trace.legendgroup) || (trace.meta || [""]).every((key) => away.has(key));
    const shown = data.filter((trace) => !gone(trace));
    Plotly.react(plot, shown, layout, {
      displaylogo: false, displayModeBar: narrow || printing ? false : "hover", modeBarButtons: [["toImage"]],
      doubleClick: false, showTips: false,
    });
  };
  const drawAll = () => plots.forEach(draw);

  for (const choice of choices)
    choice.addEventListener("change", () => {
      const is = (option) => option.dataset.is || option.text;
      for (const other of choices) {
        if (other.dataset.together !== choice.dataset.together) continue;
        const same = [...other.options].findIndex((option) => is(option) === is(choice.selectedOptions[0]));
        if (same >= 0) other.selectedIndex = same;
      }
      drawAll();
    });

  for (const key of keys)
    key.addEventListener("click", () => {
      const name = key.dataset.key;
      if (!away.delete(name)) away.add(name);
      for (const same of keys)
        if (same.dataset.key === name) same.setAttribute("aria-pressed", String(!away.has(name)));
      drawAll();
    });

  let width = innerWidth, waiting;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 120);
  });
  dark.addEventListener("change", drawAll);

  const closed = new Set();
  addEventListener("beforeprint", () => {
    printing = true;
    for (const details of document.querySelectorAll("details:not([open])")) { closed.add(details); details.open = true; }
    drawAll();
  });
  addEventListener("afterprint", () => {
    printing = false;
    for (const details of closed) details.open = false;
    closed.clear();
    drawAll();
  });
  drawAll();
})();
