// What keys do: on a slide that has the focus, and on the whole page when nobody is typing.
import { allHidden, drawn, focus, goTo, layers, setLayer, sheet, spots, tab, tool } from "../state";
import type { View } from "./view";

const STEP = 0.12;
const FAST = 0.5;
const OBJECTIVES: Record<string, number> = { "1": 1, "2": 2, "3": 5, "4": 10, "5": 20, "6": 40 };

/** Rows of the help sheet. */
export const KEYS: [string, string][] = [
  ["Arrows, Shift + arrows", "move, move fast"],
  ["+ and −", "closer, farther"],
  ["0", "whole slide, upright"],
  ["1 2 3 4 5 6", "1×, 2×, 5×, 10×, 20×, 40×"],
  ["[ and ]", "turn by 15°"],
  ["N, Shift + N", "next, previous evidence"],
  ["H", "hide and show everything drawn"],
  ["G", "occlusion heat on and off"],
  ["R, P", "draw a box, a polygon"],
  ["Enter, first corner", "close the polygon"],
  ["Esc", "stop drawing, close what is open"],
  ["/", "write a question"],
  ["?", "this list"],
];

/** A key pressed on a slide; true if it meant something. */
export function slideKey(view: View, event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const step = event.shiftKey ? FAST : STEP;
  const objective = OBJECTIVES[event.key];
  if (objective) view.magnify(objective);
  else if (event.key === "ArrowLeft") view.pan(-step, 0);
  else if (event.key === "ArrowRight") view.pan(step, 0);
  else if (event.key === "ArrowUp") view.pan(0, -step);
  else if (event.key === "ArrowDown") view.pan(0, step);
  else if (event.key === "+" || event.key === "=") view.zoomBy(1.3);
  else if (event.key === "-") view.zoomBy(1 / 1.3);
  else if (event.key === "[") view.rotate(-15);
  else if (event.key === "]") view.rotate(15);
  else if (event.key === "0") {
    view.rotate(0);
    view.fit();
  } else return false;
  return true;
}

/** A key pressed anywhere while nobody types; true if it meant something. */
export function pageKey(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "h") allHidden.value = !allHidden.value;
  else if (key === "g") setLayer("heat", { on: !layers.value.heat.on });
  else if (key === "r") tool.value = "box";
  else if (key === "p") tool.value = "polygon";
  else if (key === "n") nextSpot(event.shiftKey ? -1 : 1);
  else if (key === "?") sheet.value = sheet.value === "help" ? "none" : "help";
  else if (key === "/") {
    tab.value = "ask";
    requestAnimationFrame(() => document.getElementById("question")?.focus());
  } else if (key === "Escape") {
    if (tool.value !== "look") tool.value = "look";
    else if (sheet.value !== "none") sheet.value = "none";
    else drawn.value = null;
  } else return false;
  return true;
}

function nextSpot(by: number): void {
  const shown = spots.value;
  if (!shown?.items.length) return;
  const now = shown.items.findIndex((s) => s.key === focus.value);
  const next = now < 0 ? 0 : (now + by + shown.items.length) % shown.items.length;
  goTo(shown, shown.items[next]!);
}

export function isTyping(event: KeyboardEvent): boolean {
  const at = event.target as HTMLElement;
  return at.isContentEditable || /^(input|textarea|select)$/i.test(at.tagName);
}
