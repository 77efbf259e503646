// Buttons that copy the snippet beside them.

export function copyButtons(root, announce) {
  root.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const code = button.closest("section").querySelector("code");
    const copied = await copy(code);
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    announce(copied ? "Copied." : "Selected; copy it with Ctrl+C.");
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

// A page that came over plain HTTP from another machine has no clipboard: then it is selected.
async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return false;
  }
}
