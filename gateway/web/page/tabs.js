// Links to the parts of the page become tabs: one part is open, arrow keys move between them
// (W3C, ARIA Authoring Practices Guide, "Tabs").

export function tabs(list, opened) {
  const links = [...list.querySelectorAll("a")];
  const panel = (link) => document.getElementById(link.hash.slice(1));

  function open(link) {
    for (const each of links) {
      const chosen = each === link;
      each.setAttribute("aria-selected", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
      panel(each).classList.toggle("open", chosen);
    }
    opened(link.hash.slice(1));
  }

  list.setAttribute("role", "tablist");
  for (const link of links) {
    const name = link.hash.slice(1);
    link.id = `tab-${name}`;
    link.setAttribute("role", "tab");
    link.setAttribute("aria-controls", name);
    panel(link).setAttribute("role", "tabpanel");
    panel(link).setAttribute("aria-labelledby", link.id);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      history.replaceState(null, "", link.hash);
      open(link);
    });
  }
  list.addEventListener("keydown", (event) => {
    const at = links.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const link = links[(to + links.length) % links.length];
    link.focus();
    link.click();
  });
  const named = () => links.find((link) => link.hash === location.hash);
  window.addEventListener("hashchange", () => named() && open(named()));
  open(named() ?? links[0]);
}
