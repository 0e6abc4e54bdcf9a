// What the server says, as docs/api.md has it. Places are level-0 pixels of the slide; a box is [x0, y0, x1, y1].

export type Box = [number, number, number, number];
export type Point = [number, number];
export type Scale = "cell" | "patch" | "region" | "slide";

export interface Fault {
  reason: string;
  what: string;
  advice: string;
}

export interface Status {
  version: string;
  preset: string;
  model: string;
  model_state: "loading" | "ready" | "failed";
  model_error: string;
  note: string;
  can: Partial<Record<"search" | "pdf" | "teach" | "label" | "upload", boolean>>;
}

export interface Stage {
  name: "tissue" | "regions" | "patches" | "cells";
  done: number;
  total: number | null;
}

export interface Job {
  id: string;
  slide: string;
  state: "queued" | "running" | "done" | "failed" | "cancelled";
  stages: Stage[];
  eta_s: number | null;
  error: Fault | null;
}

export interface Slide {
  id: string;
  name: string;
  width: number;
  height: number;
  mpp: number | null;
  mpp_source: string | null;
  objective: number | null;
  vendor: string | null;
  warnings: string[];
  tile_size: number;
  max_level: number;
  encoded: boolean;
  partial_regions: number;
  job: Job | null;
  error: Fault | null;
  /** Of an encoded slide, and only when it is asked for alone; so are the types. */
  counts: { regions: number; patches: number; kept: number | null; cells: number } | null;
  cell_types: { name: string; count: number }[] | null;
}

export interface Layers {
  /** Polygons, each its outer ring and its holes. */
  tissue: Point[][][];
  regions: { label: string | null; box: Box }[];
  patches: { label: string | null; box: Box; kept: boolean }[];
}

export interface CellsInView {
  total: number;
  types: string[];
  cells: { t: number; p: number[] }[];
}

export interface Evidence {
  scale: Scale;
  label: string;
  box: Box;
  score: number;
  supports: string;
  contours: Point[][];
}

export interface Provenance {
  model: string;
  weights_sha256: string;
  preset: string;
  slide: string;
  slide_id: string;
  features: string;
  seed: number;
  hwsi_version: string;
}

export interface Answer {
  /** Known to this run of the server only. */
  id: string;
  question: string;
  text: string;
  evidence: Evidence[];
  visual_reliance: number;
  reliance_words: string;
  confidence: number;
  confidence_words: string;
  support_words?: string | null;
  calibrated?: number | null;
  choices: string[];
  choice_probs: number[];
  /** What was read, if the question was about a drawing. */
  area: { patches: number; um2: number } | null;
  /** How much had been read, if the slide was still being encoded. */
  seen?: { share: number; regions: number; of: number } | null;
  warnings: string[];
  provenance: Provenance;
}

export interface Weighed {
  label: string;
  box: Box;
  worth: number;
}

/** What every region and patch that the model reads is worth to an answer. */
export interface HeatMap {
  unit: string;
  regions: Weighed[];
  patches: Weighed[];
}

export interface Statement {
  text: string;
  cites: string[];
  missing: string[];
  rests_on: string[] | null;
  evidence: Evidence[];
  visual_reliance: number;
  reliance_words: string;
  confidence: number;
  confidence_words: string;
  support_words?: string | null;
}

export interface Report {
  text: string;
  statements: Statement[];
  visual_reliance: number;
  confidence: number;
  warnings: string[];
  note: string;
  provenance: Provenance;
}

export interface Match {
  label: string;
  box: Box;
  score: number;
}

export interface Found {
  query: string;
  matches: Match[];
  enough: boolean;
  note: string;
}

export interface Lesson {
  /** `query` finds more of it by search. */
  features: { name: string; words: string; query: string; examples: { label: string; box: Box; slide: string }[] }[];
  quizzes: string[];
  why_not: string | null;
}

export interface Quiz {
  id: string;
  kind: "choice" | "point";
  question: string;
  choices: string[];
  box: Box | null;
}

export interface Mark {
  correct: boolean;
  truth: string;
  words: string;
  boxes: Box[];
  score: { right: number; asked: number };
}

export type Verdict = "right" | "wrong" | "unsure";
