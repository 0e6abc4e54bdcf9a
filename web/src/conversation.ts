// What was asked of each slide and what came back: streaming, stopping, remembering.
import { computed, signal } from "@preact/signals";
import { api, faultOf } from "./api";
import { activeId, keep, learnKept, recall, spots, spotsOf, type Spots } from "./state";
import type { Answer, Fault, Point, Verdict } from "./types";

export interface Turn {
  id: string;
  slide: string;
  question: string;
  choices: string[];
  polygon: Point[] | null;
  /** Words so far; the answer's own text once it is there. */
  text: string;
  state: "waiting" | "speaking" | "weighing" | "done" | "stopped" | "failed";
  ahead: number;
  answer: Answer | null;
  fault: Fault | null;
  verdict: Verdict | null;
}

const REMEMBERED = 40;
const turns = signal<Record<string, Turn[]>>({});
const running = new Map<string, AbortController>();

export const conversation = computed(() => (activeId.value ? (turns.value[activeId.value] ?? []) : []));
export const busy = computed(() => conversation.value.some((t) => isRunning(t)));

export function isRunning(turn: Turn): boolean {
  return turn.state === "waiting" || turn.state === "speaking" || turn.state === "weighing";
}

const shelf = (slide: string) => `hwsi.turns.${slide}`;

/** Bring back what was said of a slide before. */
export function remember(slide: string): void {
  if (turns.value[slide]) return;
  turns.value = { ...turns.value, [slide]: recall<Turn[]>(shelf(slide), []) };
}

export function forget(slide: string): void {
  for (const turn of turns.value[slide] ?? []) stop(turn.id);
  turns.value = { ...turns.value, [slide]: [] };
  keep(shelf(slide), []);
  if (spots.value?.slide === slide) spots.value = null;
}

function change(slide: string, id: string, to: Partial<Turn>): void {
  const mine = (turns.value[slide] ?? []).map((t) => (t.id === id ? { ...t, ...to } : t));
  turns.value = { ...turns.value, [slide]: mine };
}

function store(slide: string): void {
  const finished = (turns.value[slide] ?? []).filter((t) => !isRunning(t)).slice(-REMEMBERED);
  keep(shelf(slide), finished);
}

/** What an answer rests on, ready to be drawn. */
export function spotsOfTurn(turn: Turn): Spots {
  return {
    slide: turn.slide,
    source: turn.id,
    what: "worth to the answer, nats",
    answer: turn.answer?.id ?? null,
    outline: turn.polygon,
    items: spotsOf(turn.id, turn.answer?.evidence ?? []),
  };
}

export async function ask(slide: string, question: string, choices: string[], polygon: Point[] | null): Promise<void> {
  const id = `t${Date.now().toString(36)}`;
  const turn: Turn = {
    id, slide, question, choices, polygon, text: "", state: "waiting", ahead: 0, answer: null, fault: null, verdict: null,
  };
  turns.value = { ...turns.value, [slide]: [...(turns.value[slide] ?? []), turn] };
  const control = new AbortController();
  running.set(id, control);
  let text = "";
  try {
    const body = { question, evidence: true, ...(choices.length && { choices }), ...(polygon && { polygon }) };
    for await (const { event, data } of api.ask(slide, body, control.signal)) {
      if (event === "queued") change(slide, id, { ahead: (data as { position: number }).position });
      else if (event === "token") change(slide, id, { text: (text += (data as { text: string }).text), state: "speaking" });
      else if (event === "weighing") change(slide, id, { state: "weighing" });
      else if (event === "answer") {
        const answer = data as Answer;
        change(slide, id, { answer, text: answer.text, state: "done" });
        spots.value = spotsOfTurn({ ...turn, answer });
        learnKept(slide).catch(() => undefined); // a layer less, no more
      }
    }
    const last = turns.value[slide]?.find((t) => t.id === id);
    if (last && !last.answer) change(slide, id, { state: "failed", fault: CUT });
  } catch (error) {
    if (control.signal.aborted) change(slide, id, { state: "stopped" });
    else change(slide, id, { state: "failed", fault: faultOf(error) });
  } finally {
    running.delete(id);
    store(slide);
  }
}

const CUT: Fault = { reason: "stream", what: "the answer was cut off", advice: "ask again" };

export function stop(id: string): void {
  running.get(id)?.abort();
}

/** Tell the server what a person thinks of an answer; throws Refused. */
export async function judge(turn: Turn, verdict: Verdict, better = "", box: number[] = []): Promise<void> {
  const { slide, question, choices, text } = turn;
  await api.feedback({ slide, question, choices, answer: text, verdict, better, ...(box.length && { box }) });
  change(slide, turn.id, { verdict });
  store(slide);
}
