// Draws layers, evidence and drawings over a slide, on one canvas.
// - Everything is in level-0 pixels and goes through one affine map, so it stays in place when the view turns.
// - Every line has a casing of the opposite lightness.
import type { LayerSettings, Spot } from "../state";
import type { Box, CellsInView, HeatMap, Layers, Point, Weighed } from "../types";
import { DRAWN, KEPT, REGION, TISSUE, cellMark, heat } from "./palette";
import type { Affine } from "./view";

export interface Scene {
  at: Affine;
  settings: LayerSettings;
  tissue: Layers | null;
  cells: CellsInView | null;
  hiddenTypes: readonly number[];
  map: HeatMap | null;
  spots: readonly Spot[];
  hover: string | null;
  focus: string | null;
  /** 0..1 while the spot that was gone to pulses, else 1. */
  pulse: number;
  drawing: Point[];
  /** Finished drawings. */
  drawn: Point[][];
  /** Where a quiz was answered. */
  point: Point | null;
}

const WHITE = "#ffffff";
const BLACK = "#101010";
/** Width of a region on the screen from which a heat map shows its patches. */
const PATCHES_FROM_PX = 600;

export function paint(ctx: CanvasRenderingContext2D, scene: Scene): void {
  const { settings, tissue } = scene;
  const to = mapper(scene.at);
  ctx.lineJoin = "round";
  if (scene.map && settings.heat.on) paintMap(ctx, scene.map, scene.at, settings.heat.opacity, to);
  if (tissue && settings.tissue.on) {
    ctx.globalAlpha = settings.tissue.opacity;
    for (const polygon of tissue.tissue) cased(ctx, path(polygon, to), TISSUE, WHITE, 1.5, [6, 4]);
  }
  if (tissue && settings.regions.on) {
    ctx.globalAlpha = settings.regions.opacity;
    for (const { box, label } of tissue.regions) {
      cased(ctx, path([corners(box)], to), REGION, BLACK, 1.5);
      // at the foot: the number of evidence stands at the head
      if (label && wide(box, scene.at) > 60) tag(ctx, to(box[0], box[3]), label, BLACK, REGION);
    }
  }
  if (tissue && settings.kept.on) {
    ctx.globalAlpha = settings.kept.opacity;
    const all = new Path2D();
    for (const { box, kept } of tissue.patches) if (kept) all.addPath(path([corners(box)], to));
    cased(ctx, all, KEPT, BLACK, 1);
  }
  if (scene.cells && settings.cells.on) {
    ctx.globalAlpha = settings.cells.opacity;
    paintCells(ctx, scene.cells, scene.hiddenTypes, to);
  }
  ctx.globalAlpha = 1;
  paintSpots(ctx, scene, to);
  for (const polygon of scene.drawn) cased(ctx, path([polygon], to), DRAWN, BLACK, 2);
  if (scene.drawing.length) cased(ctx, path([scene.drawing], to, false), DRAWN, BLACK, 2, [6, 4]);
  if (scene.point) {
    const [x, y] = to(...scene.point);
    const cross = new Path2D(`M${x - 10} ${y}h20M${x} ${y - 10}v20`);
    cased(ctx, cross, DRAWN, BLACK, 2.5);
  }
}

/** A heat map has one scale at a time: regions from afar, patches from near, each with a range of its own. */
export function heatParts(map: HeatMap, zoom: number): { parts: Weighed[]; what: string; most: number } {
  const side = Math.max(0, ...map.regions.map(({ box }) => box[2] - box[0]));
  const near = side * zoom >= PATCHES_FROM_PX && map.patches.length > 0;
  const parts = near ? map.patches : map.regions;
  return { parts, what: near ? "patches" : "regions", most: Math.max(1e-9, ...parts.map((p) => p.worth)) };
}

/** What is worth nothing is left as it is. */
function paintMap(ctx: CanvasRenderingContext2D, map: HeatMap, at: Affine, opacity: number, to: Map2): void {
  const { parts, most } = heatParts(map, Math.hypot(at.a, at.b));
  ctx.globalAlpha = opacity;
  for (const { box, worth } of parts) {
    if (worth <= 0) continue;
    ctx.fillStyle = heat(worth / most);
    ctx.fill(path([corners(box)], to));
  }
  ctx.globalAlpha = 1;
}

function paintCells(ctx: CanvasRenderingContext2D, found: CellsInView, hidden: readonly number[], to: Map2): void {
  found.types.forEach((type, t) => {
    if (hidden.includes(t)) return;
    const all = new Path2D();
    for (const cell of found.cells) if (cell.t === t) addRing(all, cell.p, to);
    const mark = cellMark(type);
    cased(ctx, all, mark.colour, mark.casing, 1.6, mark.dash);
  });
}

function paintSpots(ctx: CanvasRenderingContext2D, scene: Scene, to: Map2): void {
  const { spots, settings } = scene;
  const most = Math.max(...spots.map((s) => s.score), 1e-9);
  if (settings.heat.on && !scene.map) {
    ctx.globalAlpha = settings.heat.opacity;
    for (const spot of byArea(spots)) {
      // what somebody looks at is left as it is
      if (spot.scale === "cell" || spot.key === scene.focus || spot.key === scene.hover) continue;
      ctx.fillStyle = heat(spot.score / most);
      ctx.fill(path([corners(spot.box)], to));
    }
    ctx.globalAlpha = 1;
  }
  for (const spot of byArea(spots)) {
    const active = spot.key === scene.focus || spot.key === scene.hover;
    const rings = spot.contours.length ? spot.contours : [corners(spot.box)];
    const shape = path(rings, to);
    if (active) {
      cased(ctx, shape, BLACK, WHITE, 3);
      if (spot.key === scene.focus && scene.pulse < 1) ring(ctx, spot.box, to, scene.pulse);
    } else {
      cased(ctx, shape, REGION, BLACK, 2);
    }
    const [x0, y0, x1] = spot.box;
    const corner = spot.scale === "cell" ? to(x1, y0) : to(x0, y0);
    tag(ctx, corner, String(spot.rank), active ? BLACK : REGION, active ? WHITE : BLACK);
  }
}

/** A frame that grows out of the box and fades. */
function ring(ctx: CanvasRenderingContext2D, box: Box, to: Map2, t: number): void {
  const grow = (box[2] - box[0]) * 0.25 * t;
  ctx.globalAlpha = 1 - t;
  cased(ctx, path([corners([box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow])], to), WHITE, BLACK, 3);
  ctx.globalAlpha = 1;
}

type Map2 = (x: number, y: number) => Point;

function mapper({ a, b, c, d, e, f }: Affine): Map2 {
  return (x, y) => [a * x + c * y + e, b * x + d * y + f];
}

export function corners([x0, y0, x1, y1]: Box): Point[] {
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}

function path(rings: readonly Point[][], to: Map2, closed = true): Path2D {
  const made = new Path2D();
  for (const points of rings) {
    points.forEach(([x, y], i) => made[i ? "lineTo" : "moveTo"](...to(x, y)));
    if (closed) made.closePath();
  }
  return made;
}

function addRing(made: Path2D, flat: readonly number[], to: Map2): void {
  for (let i = 0; i + 1 < flat.length; i += 2) made[i ? "lineTo" : "moveTo"](...to(flat[i]!, flat[i + 1]!));
  made.closePath();
}

function cased(
  ctx: CanvasRenderingContext2D, shape: Path2D, colour: string, casing: string, width: number, dash: number[] = [],
): void {
  ctx.setLineDash([]);
  ctx.lineWidth = width + 2;
  ctx.strokeStyle = casing;
  ctx.stroke(shape);
  ctx.setLineDash(dash);
  ctx.lineWidth = width;
  ctx.strokeStyle = colour;
  ctx.stroke(shape);
  ctx.setLineDash([]);
}

function tag(ctx: CanvasRenderingContext2D, [x, y]: Point, text: string, ground: string, ink: string): void {
  ctx.font = "600 12px system-ui, sans-serif";
  const wide = ctx.measureText(text).width + 10;
  const top = Math.max(0, y - 18);
  ctx.fillStyle = ground;
  ctx.fillRect(x - 1, top, wide, 18);
  ctx.fillStyle = ink;
  ctx.fillText(text, x + 4, top + 13);
}

function wide(box: Box, at: Affine): number {
  return (box[2] - box[0]) * Math.hypot(at.a, at.b);
}

const size = ([x0, y0, x1, y1]: Box) => (x1 - x0) * (y1 - y0);

/** Large ones first, so that small ones lie on top. */
export function byArea(spots: readonly Spot[]): Spot[] {
  return [...spots].sort((a, b) => size(b.box) - size(a.box));
}

/** The smallest spot that holds a place. */
export function spotAt(spots: readonly Spot[], [x, y]: Point): Spot | null {
  const holds = ({ box }: Spot) => x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3];
  return byArea(spots).filter(holds).at(-1) ?? null;
}
