// The canvas over a slide: when to draw it again, which cells to ask for, and what the pointer does there.
// - Cells are vectors when few are in view and tiles of the server when many; all of them, never a sample.
import { effect, untracked } from "@preact/signals";
import { api } from "../api";
import {
  activeId, allHidden, clicked, drawn, focus, goTo, heatMaps, hiddenTypes, hover, layers, shownMap, spots, tissueOf, tool,
  wantsClick,
} from "../state";
import type { CellsInView, Point } from "../types";
import { boxOf } from "../words";
import { corners, paint, spotAt } from "./paint";
import { calm, type View } from "./view";

const AS_VECTORS = 1500;
const PULSE_MS = 900;
const SETTLED_MS = 160;
const NEAR_PX = 14;

/** Draws on `canvas` what is known of the slide of `view`, and listens to the pointer; returns how to stop. */
export function overlay(view: View, canvas: HTMLCanvasElement): () => void {
  const { osd, slide } = view;
  const ctx = canvas.getContext("2d")!;
  let drawing: Point[] = [];
  let cells: CellsInView | null = null;
  let asked: AbortController | null = null;
  let timer = 0;
  let frame = 0;
  let pulseFrom = -Infinity;
  let pulsed: string | null = null;

  const mine = () => (spots.value?.slide === slide.id && !allHidden.value ? spots.value.items : []);

  const map = () => (spots.value?.slide === slide.id && !allHidden.value ? shownMap() : null);

  const drawings = () => {
    const asked = spots.value?.slide === slide.id && !allHidden.value ? spots.value.outline : null;
    const fresh = drawn.value?.slide === slide.id ? drawn.value.polygon : null;
    return [asked, fresh].filter((polygon) => polygon !== null);
  };

  function draw(): void {
    frame = 0;
    const at = view.affine;
    if (!at) return;
    const ratio = devicePixelRatio;
    const { clientWidth: w, clientHeight: h } = canvas;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, w, h);
    const pulse = Math.min(1, (performance.now() - pulseFrom) / PULSE_MS);
    paint(ctx, {
      at,
      settings: layers.peek(),
      tissue: allHidden.peek() ? null : (tissueOf.peek()[slide.id] ?? null),
      cells: allHidden.peek() ? null : cells,
      hiddenTypes: hiddenTypes.peek(),
      map: untracked(map),
      spots: untracked(mine),
      hover: hover.peek(),
      focus: focus.peek(),
      pulse,
      drawing,
      drawn: untracked(drawings),
      point: clicked.peek()?.slide === slide.id ? clicked.peek()!.point : null,
    });
    if (pulse < 1) again();
  }

  function again(): void {
    frame ||= requestAnimationFrame(draw);
  }

  async function findCells(): Promise<void> {
    asked?.abort();
    if (!view.slide.encoded || !layers.peek().cells.on || allHidden.peek()) {
      cells = null;
      view.showCells(null, 0);
      return again();
    }
    asked = new AbortController();
    try {
      const found = await api.cells(slide.id, view.seen, AS_VECTORS, asked.signal);
      cells = found.total <= AS_VECTORS ? found : null;
      const shown = found.types.map((_, t) => t).filter((t) => !hiddenTypes.peek().includes(t));
      const types = shown.length === found.types.length ? "" : shown.join(",");
      view.showCells(cells || !shown.length ? null : types, layers.peek().cells.opacity);
      again();
    } catch {
      // left for a newer question, or the server is gone, which the page says elsewhere
    }
  }

  const settle = () => {
    clearTimeout(timer);
    timer = setTimeout(findCells, SETTLED_MS);
  };

  const stops = [
    effect(() => {
      void [layers.value, allHidden.value, tissueOf.value, spots.value, heatMaps.value, hover.value, drawn.value, clicked.value, hiddenTypes.value];
      if (focus.value !== pulsed) {
        pulsed = focus.value;
        if (pulsed && !calm()) pulseFrom = performance.now();
      }
      again();
    }),
    effect(() => {
      void [layers.value.cells, allHidden.value, hiddenTypes.value];
      settle();
    }),
    effect(() => {
      canvas.dataset.tool = tool.value;
      if (tool.value === "look") drawing = [];
      again();
    }),
  ];
  osd.addHandler("update-viewport", again);
  osd.addHandler("animation-finish", settle);
  osd.addHandler("open", settle);
  osd.addHandler("canvas-click", (event) => {
    activeId.value = slide.id;
    if (!event.quick) return;
    const point = view.place(event.position.x, event.position.y);
    if (wantsClick.value) clicked.value = { slide: slide.id, point };
    const hit = spotAt(mine(), point);
    if (hit) goTo(spots.value!, hit);
  });
  const onMove = (event: PointerEvent) => {
    if (tool.value !== "look") return;
    const { left, top } = osd.element.getBoundingClientRect();
    hover.value = spotAt(mine(), view.place(event.clientX - left, event.clientY - top))?.key ?? null;
  };
  osd.element.addEventListener("pointermove", onMove);

  // --- drawing -----------------------------------------------------------------------------------------

  const within = ([x, y]: Point): Point => [
    Math.round(Math.min(Math.max(x, 0), slide.width)),
    Math.round(Math.min(Math.max(y, 0), slide.height)),
  ];
  const place = (event: PointerEvent) => within(view.place(event.offsetX, event.offsetY));
  let from: Point | null = null;

  /** Whether a click on the first corner closes the polygon. */
  function closes(event: PointerEvent): boolean {
    const [first] = drawing;
    if (!first || drawing.length < 4) return false;
    const [x, y] = place(event);
    return Math.hypot(x - first[0], y - first[1]) * view.zoom < NEAR_PX;
  }

  function finish(polygon: Point[]): void {
    const [x0, y0, x1, y1] = boxOf(polygon);
    if (x1 - x0 >= 8 && y1 - y0 >= 8) drawn.value = { slide: slide.id, polygon };
    drawing = [];
    from = null;
    tool.value = "look";
  }
  canvas.addEventListener("pointerdown", (event) => {
    activeId.value = slide.id;
    if (tool.value === "box") {
      canvas.setPointerCapture(event.pointerId);
      from = place(event);
    } else if (tool.value === "polygon" && closes(event)) {
      finish(drawing.slice(0, -1));
    } else if (tool.value === "polygon") {
      drawing = [...drawing.slice(0, -1), place(event), place(event)];
    }
    again();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (tool.value === "box" && from) drawing = [...corners([...from, ...place(event)]), from];
    else if (tool.value === "polygon" && drawing.length) drawing = [...drawing.slice(0, -1), place(event)];
    again();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (tool.value === "box" && from) finish(corners(boxOf([from, place(event)])));
  });
  canvas.addEventListener("dblclick", () => {
    // the second click of the double click stands there twice
    if (tool.value === "polygon" && drawing.length >= 4) finish(drawing.slice(0, -2));
  });
  const onKey = (event: KeyboardEvent) => {
    if (tool.value === "polygon" && event.key === "Enter" && drawing.length >= 4) finish(drawing.slice(0, -1));
  };
  addEventListener("keydown", onKey);

  return () => {
    stops.forEach((stop) => stop());
    removeEventListener("keydown", onKey);
    osd.element.removeEventListener("pointermove", onMove);
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    asked?.abort();
  };
}
