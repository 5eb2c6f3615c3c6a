"use strict";
// The list of contents: a column beside the page where there is room, else folded away; it says where the reader is.
(() => {
  const list = document.querySelector("nav.contents details");
  if (!list) return;
  const wide = matchMedia("(min-width: 1180px)");
  const fold = () => { list.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  const links = [...list.querySelectorAll("a")];
  for (const link of links)
    link.addEventListener("click", () => { if (!wide.matches) list.open = false; });
  const titles = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  const here = () => {
    const passed = titles.filter((title) => title.getBoundingClientRect().top < innerHeight / 3).length;
    links.forEach((link, at) => {
      if (at === Math.max(passed - 1, 0)) link.setAttribute("aria-current", "location"); else link.removeAttribute("aria-current");
    });
  };
  let asked = false;
  addEventListener("scroll", () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; here(); });
  }, { passive: true });
  here();
})();
