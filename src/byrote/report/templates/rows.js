"use strict";
// Every row of the results, a page at a time: whatever their number, the document holds one page of them.
(() => {
  const box = document.getElementById("rows-box");
  if (!box) return;
  const PAGE = 50;
  const { columns, filters, words, rows } = JSON.parse(document.getElementById("rows").textContent);
  const total = rows[columns[0]].length;
  const shown = columns.filter((name) => name !== "low" && name !== "high");
  const chosen = new Map();
  let terms = [], order = null, page = 0, found = [];

  const make = (tag, parent, attributes = {}, text = "") => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    parent.append(element);
    return element;
  };
  const number = (value) => {
    if (value === null) return "–";
    const text = Math.abs(value) >= 1e4 ? value.toLocaleString("en") : String(value);
    return text.replace(/-/g, "−");
  };
  const kind = (name) => (!words[name] ? "number" : name === "reason" ? "text wrap" : "text");
  const plain = (name, at) => (words[name] ? words[name][rows[name][at]] : number(rows[name][at]));

  // What may be chosen
  const form = make("form", box, { class: "choose", role: "search", "aria-label": "Filter the rows" });
  form.addEventListener("submit", (event) => event.preventDefault());
  const selects = filters.map((name) => {
    const select = make("select", make("label", form, {}, name + " "), { "data-filter": name });
    make("option", select, { value: "" }, "all");
    words[name].forEach((word, at) => make("option", select, { value: at }, word || "–"));
    select.addEventListener("change", () => {
      if (select.value === "") chosen.delete(name); else chosen.set(name, Number(select.value));
      search();
    });
    return select;
  });
  const text = make("input", make("label", form, {}, "search "), { type: "search", autocomplete: "off", spellcheck: "false" });
  let waiting;
  text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { terms = text.value.toLowerCase().split(/\s+/).filter(Boolean); search(); }, 120);
  });
  const clear = make("button", form, { type: "button" }, "Clear");
  clear.addEventListener("click", () => {
    for (const select of selects) select.value = "";
    text.value = "";
    chosen.clear();
    terms = [];
    search();
  });

  // What is found
  const status = make("p", box, { class: "note", role: "status", "aria-live": "polite" });
  const scroll = make("div", box, { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows of the results" });
  const table = make("table", scroll);
  make("caption", table, { class: "unseen" }, "Rows of the results, one page of them");
  const head = make("tr", make("thead", table));
  const heads = shown.map((name) => {
    const cell = make("th", head, { scope: "col", class: words[name] ? "text" : "" });
    const button = make("button", cell, { type: "button", class: "sort" }, name === "value" ? "value and interval" : name);
    button.addEventListener("click", () => {
      const down = order && order.name === name ? (order.down ? null : true) : false;
      order = down === null ? null : { name, down };
      sort();
      page = 0;
      draw();
    });
    return cell;
  });
  const body = make("tbody", table);
  const pager = make("p", box, { class: "pager" });
  const step = (label, to) => {
    const button = make("button", pager, { type: "button" }, label);
    button.addEventListener("click", () => {
      const next = Math.min(Math.max(to(), 0), last());
      if (next !== page) { page = next; draw(); }
    });
    return [button, to];
  };
  const last = () => Math.max(Math.ceil(found.length / PAGE) - 1, 0);
  const steps = [["First", () => 0], ["Previous", () => page - 1], ["Next", () => page + 1], ["Last", last]]
    .map(([label, to]) => step(label, to));

  const search = () => {
    const has = terms.map((term) =>
      Object.entries(words).map(([name, list]) => [name, new Set(list.flatMap((word, at) => (word.toLowerCase().includes(term) ? [at] : [])))]));
    found = [];
    for (let at = 0; at < total; at++) {
      let keep = true;
      for (const [name, wanted] of chosen) if (rows[name][at] !== wanted) { keep = false; break; }
      if (keep && has.every((matches) => matches.some(([name, places]) => places.has(rows[name][at])))) found.push(at);
    }
    sort();
    page = 0;
    draw();
  };
  const sort = () => {
    if (!order) return void found.sort((a, b) => a - b);
    const { name, down } = order, sign = down ? -1 : 1, column = rows[name];
    // Places of words are in the order in which they were met: they are ranked once, by numbers inside them too.
    let rank = null;
    if (words[name]) {
      rank = [];
      const collate = new Intl.Collator("en", { numeric: true }).compare;
      words[name].map((_, at) => at).sort((a, b) => collate(words[name][a], words[name][b])).forEach((at, place) => { rank[at] = place; });
    }
    const key = (at) => (rank ? rank[column[at]] : column[at]);
    found.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // absent last, either way
      return sign * (x - y) || a - b;
    });
  };
  const draw = () => {
    const start = page * PAGE, part = found.slice(start, start + PAGE);
    const end = start + part.length;
    status.textContent = found.length
      ? `Rows ${(start + 1).toLocaleString("en")} to ${end.toLocaleString("en")} of ${found.length.toLocaleString("en")}`
        + (found.length < total ? `, of ${total.toLocaleString("en")} in all` : "")
      : "No row has all of this.";
    heads.forEach((cell, at) => {
      const own = order && order.name === shown[at];
      if (own) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending"); else cell.removeAttribute("aria-sort");
    });
    body.replaceChildren();
    for (const at of part) {
      const line = make("tr", body);
      shown.forEach((name, place) => {
        const cell = make(place ? "td" : "th", line, place ? { class: kind(name) } : { scope: "row" });
        cell.append(plain(name, at));
        if (name === "value" && rows.low && rows.low[at] !== null && rows.high[at] !== null)
          cell.append(" "), make("span", cell, { class: "small" }, `[${number(rows.low[at])}, ${number(rows.high[at])}]`);
      });
    }
    for (const [button, to] of steps)
      button.setAttribute("aria-disabled", String(Math.min(Math.max(to(), 0), last()) === page));
  };
  search();
})();
