// What the page knows, as signals: which slides are open, what is drawn on them, what was said.
// - Parts of the page read these and change them through the functions here and in conversation.ts; they never call each other.
// - What a person chose (theme, layers) and what was said of a slide stay in this browser only.
import { computed, effect, signal } from "@preact/signals";
import { api, faultWords } from "./api";
import type { Box, Evidence, Fault, HeatMap, Layers, Match, Point, Scale, Slide, Status } from "./types";

export const status = signal<Status | null>(null);
export const slides = signal<Slide[] | null>(null);
/** Slides side by side, left to right, and the one that is talked about. */
export const opened = signal<string[]>([]);
export const activeId = signal<string | null>(null);
export const active = computed(() => slides.value?.find((s) => s.id === activeId.value) ?? null);
export const BESIDE = 4;

export type Tab = "slide" | "ask" | "report" | "search" | "teach";
export const tab = signal<Tab>("ask");
export const sheet = signal<"none" | "slides" | "layers" | "help">("none");
/** One sentence for everybody, also read out by screen readers. */
export const notice = signal("");

/** A piece of tissue that words point at, drawn on its slide. */
export interface Spot {
  key: string;
  rank: number;
  label: string;
  scale: Scale;
  box: Box;
  contours: Point[][];
  score: number;
  words: string;
}

/** What is drawn of one answer, report or search; `what` says in the legend what its scores are. */
export interface Spots {
  slide: string;
  source: string;
  what: string;
  /** Id of the answer whose heat map can be asked for. */
  answer: string | null;
  /** The drawing that was asked about. */
  outline: Point[] | null;
  items: Spot[];
}
export const spots = signal<Spots | null>(null);
/** Keys of the spot under the pointer and of the spot that was gone to. */
export const hover = signal<string | null>(null);
export const focus = signal<string | null>(null);
/** A little picture beside the words under the pointer. */
export const peek = signal<{ src: string; y: number } | null>(null);
/** Where the view of a slide should fly; a new object each time. */
export const flight = signal<{ slide: string; box: Box } | null>(null);
/** Views to return to after flights, the latest last. */
export const trail = signal<{ slide: string; box: Box }[]>([]);

export type Tool = "look" | "box" | "polygon";
export const tool = signal<Tool>("look");
/** What a drawing is for: a question, an answer's wrong box, a click asked for by a quiz. */
export const drawn = signal<{ slide: string; polygon: Point[] } | null>(null);
export const clicked = signal<{ slide: string; point: Point } | null>(null);
export const wantsClick = signal(false);

export type LayerName = "tissue" | "regions" | "kept" | "cells" | "heat";
export type LayerSettings = Record<LayerName, { on: boolean; opacity: number }>;
const FIRST: LayerSettings = {
  tissue: { on: false, opacity: 0.9 },
  regions: { on: false, opacity: 0.9 },
  kept: { on: false, opacity: 0.9 },
  cells: { on: false, opacity: 0.9 },
  heat: { on: false, opacity: 0.35 },
};
export const layers = signal<LayerSettings>({ ...FIRST, ...recall<Partial<LayerSettings>>("hwsi.layers", {}) });
export const allHidden = signal(false);
export const hiddenTypes = signal<number[]>([]);
export const tissueOf = signal<Record<string, Layers>>({});

/** Heat maps by answer; a word where there is none (yet). */
export const heatMaps = signal<Record<string, HeatMap | "coming" | "none">>({});

export type Theme = "system" | "light" | "dark";
export const theme = signal<Theme>(recall<Theme>("hwsi.theme", "system"));

effect(() => {
  keep("hwsi.theme", theme.value);
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});
effect(() => keep("hwsi.layers", layers.value));

// measured when somebody first wants to see it: every region and patch is left out once
effect(() => {
  const id = spots.value?.answer;
  if (!layers.value.heat.on || !id || heatMaps.peek()[id]) return;
  const put = (found: HeatMap | "coming" | "none") => (heatMaps.value = { ...heatMaps.peek(), [id]: found });
  put("coming");
  api.heat(id).then(put, () => put("none"));
});

/** The heat map of what is drawn, if it is known. */
export function shownMap(): HeatMap | null {
  const found = spots.value?.answer ? heatMaps.value[spots.value.answer] : undefined;
  return typeof found === "object" ? found : null;
}

/** A value kept in this browser; `otherwise` where there is none or storage is off. */
export function recall<T>(name: string, otherwise: T): T {
  try {
    const kept = localStorage.getItem(name);
    return kept === null ? otherwise : (JSON.parse(kept) as T);
  } catch {
    return otherwise;
  }
}

export function keep(name: string, value: unknown): void {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // storage full or off: the page works, it only forgets
  }
}

export async function loadSlides(): Promise<void> {
  const before = new Map(slides.value?.map((s) => [s.id, s]));
  // a list leaves out counts; what was learnt of a slide stays
  slides.value = (await api.slides()).map((s) => ({ ...s, counts: before.get(s.id)?.counts ?? null, cell_types: before.get(s.id)?.cell_types ?? null }));
  const known = new Set(slides.value.map((s) => s.id));
  opened.value = opened.value.filter((id) => known.has(id));
  const first = slides.value.find((s) => s.encoded) ?? slides.value.find((s) => !s.error);
  if (!opened.value.length && first) openSlide(first.id);
}

/** Put what the server now says of a slide in its place. */
export function replaceSlide(slide: Slide): void {
  slides.value = (slides.value ?? []).map((s) => (s.id === slide.id ? slide : s));
}

export function openSlide(id: string, beside = false): void {
  if (opened.value.includes(id)) {
    activeId.value = id;
    return;
  }
  opened.value = beside ? [...opened.value, id].slice(-BESIDE) : [id];
  activeId.value = id;
  drawn.value = null;
}

export function closeSlide(id: string): void {
  opened.value = opened.value.filter((other) => other !== id);
  if (activeId.value === id) activeId.value = opened.value.at(-1) ?? null;
}

/** Outlines of tissue, regions and patches of an encoded slide, asked for once. */
export async function needLayers(slide: Slide): Promise<void> {
  if (!slide.encoded || tissueOf.value[slide.id]) return;
  replaceSlide(await api.slide(slide.id));
  const found = await api.layers(slide.id);
  tissueOf.value = { ...tissueOf.value, [slide.id]: found };
}

/** Ask again, after the model has read the slide: only then it is known which patches it reads. */
export async function learnKept(id: string): Promise<void> {
  const slide = slides.value?.find((s) => s.id === id);
  if (!slide || slide.counts?.kept !== null) return;
  const { [id]: _, ...others } = tissueOf.value;
  tissueOf.value = others;
  await needLayers(slide);
}

export function setLayer(name: LayerName, change: Partial<{ on: boolean; opacity: number }>): void {
  layers.value = { ...layers.value, [name]: { ...layers.value[name], ...change } };
}

export function spotsOf(source: string, evidence: readonly Evidence[]): Spot[] {
  return evidence.map((e, i) => ({
    key: `${source}/${i}`,
    rank: i + 1,
    label: e.label,
    scale: e.scale,
    box: e.box,
    contours: e.contours,
    score: e.score,
    words: e.supports,
  }));
}

export function spotsOfMatches(source: string, matches: readonly Match[]): Spot[] {
  return matches.map((m, i) => ({
    key: `${source}/${i}`,
    rank: i + 1,
    label: m.label,
    scale: "patch",
    box: m.box,
    contours: [],
    score: m.score,
    words: "",
  }));
}

/** Draw these and go to one of them. */
export function goTo(shown: Spots, spot: Spot): void {
  spots.value = shown;
  focus.value = spot.key;
  activeId.value = shown.slide;
  flight.value = { slide: shown.slide, box: spot.box };
}

export function goToBox(slide: string, box: Box): void {
  flight.value = { slide, box };
}

export function tell(fault: Fault): void {
  notice.value = faultWords(fault);
}
