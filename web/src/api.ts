// The way to the server and back: JSON, server-sent events, addresses of pictures.
// - Nothing here asks any other host; the session is an HttpOnly cookie that scripts cannot read.
// - Events come by POST, so they are read from the body of fetch; leaving (AbortSignal) cancels the work over there.
import { signal } from "@preact/signals";
import type { Box, CellsInView, Fault, Found, HeatMap, Job, Layers, Lesson, Mark, Quiz, Slide, Status, Verdict } from "./types";

/** What stands between us and the server: nothing, a missing token, or no server. */
export const door = signal<"open" | "token" | "gone">("open");

export class Refused extends Error {
  constructor(readonly fault: Fault) {
    super(fault.what);
  }
}

/** Any error as something to tell a person. */
export function faultOf(error: unknown): Fault {
  if (error instanceof Refused) return error.fault;
  const what = error instanceof Error ? error.message : String(error);
  return { reason: "page", what, advice: "try again" };
}

/** A fault in one sentence. */
export function faultWords({ what, advice }: Fault): string {
  const words = advice ? `${what}: ${advice}.` : `${what}.`;
  return words.charAt(0).toUpperCase() + words.slice(1);
}

async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let reply: Response;
  try {
    reply = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    door.value = "gone";
    throw new Refused({ reason: "server_gone", what: "the server does not answer", advice: "start hwsi serve again" });
  }
  if (reply.status === 401) door.value = "token";
  else if (door.value === "gone") door.value = "open";
  if (!reply.ok) throw new Refused(await readFault(reply));
  return reply;
}

async function readFault(reply: Response): Promise<Fault> {
  const wait = reply.headers.get("Retry-After");
  const body: unknown = await reply.json().catch(() => null);
  const said = (body && typeof body === "object" ? body : {}) as Partial<Fault>;
  return {
    reason: said.reason ?? String(reply.status),
    what: said.what ?? `the server answered ${reply.status}`,
    advice: wait ? `try again in ${wait} s` : (said.advice ?? ""),
  };
}

async function json<T>(path: string, method = "GET", body?: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method, signal };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  const reply = await request(path, init);
  return (reply.status === 204 ? null : await reply.json()) as T;
}

export interface ServerEvent {
  event: string;
  data: unknown;
}

/** Events of a stream, in order. Throws Refused for an `error` event. */
export async function* events(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<ServerEvent> {
  const init: RequestInit =
    body === undefined
      ? { signal }
      : { method: "POST", signal, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const reply = await request(path, init);
  const reader = reply.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value.replaceAll("\r\n", "\n");
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const found = readEvent(rest.slice(0, end));
      rest = rest.slice(end + 2);
      if (!found) continue;
      if (found.event === "error") throw new Refused(found.data as Fault);
      yield found;
    }
  }
}

function readEvent(block: string): ServerEvent | null {
  let event = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}

const of = (slide: string) => `/api/slides/${encodeURIComponent(slide)}`;

export const api = {
  login: (token: string) => json<null>("/api/login", "POST", { token }),
  status: () => json<Status>("/api/status"),
  slides: async () => (await json<{ slides: Slide[] }>("/api/slides")).slides,
  slide: (id: string) => json<Slide>(of(id)),
  upload: async (file: File): Promise<Slide> => {
    const name = encodeURIComponent(file.name);
    return (await (await request(`/api/slides?name=${name}`, { method: "POST", body: file })).json()) as Slide;
  },
  setMpp: (id: string, mpp: number) => json<Slide>(`${of(id)}/mpp`, "POST", { mpp }),
  encode: (id: string) => json<Job>(`${of(id)}/encode`, "POST", {}),
  cancel: (job: string) => json<unknown>(`/api/jobs/${encodeURIComponent(job)}`, "DELETE"),
  watch: (job: string, signal: AbortSignal) => events(`/api/jobs/${encodeURIComponent(job)}/events`, undefined, signal),
  layers: (id: string) => json<Layers>(`${of(id)}/layers`),
  cells: (id: string, box: Box, limit: number, signal: AbortSignal) =>
    json<CellsInView>(`${of(id)}/cells?box=${box.join(",")}&limit=${limit}`, "GET", undefined, signal),
  ask: (id: string, body: unknown, signal: AbortSignal) => events(`${of(id)}/ask`, body, signal),
  report: (id: string, signal: AbortSignal) => events(`${of(id)}/report`, {}, signal),
  export: async (id: string, format: string, body: unknown): Promise<Blob> => {
    const headers = { "Content-Type": "application/json" };
    const init = { method: "POST", body: JSON.stringify(body), headers };
    return (await request(`${of(id)}/report/export?format=${format}`, init)).blob();
  },
  evidence: async (answer: string) =>
    (await request(`/api/answers/${encodeURIComponent(answer)}/evidence.geojson`)).blob(),
  heat: (answer: string) => json<HeatMap>(`/api/answers/${encodeURIComponent(answer)}/heat`),
  search: (id: string, query: string, limit: number) => json<Found>(`${of(id)}/search`, "POST", { query, limit }),
  feedback: (said: {
    slide: string;
    question: string;
    answer: string;
    verdict: Verdict;
    better?: string;
    choices?: string[];
    box?: number[];
  }) => json<{ id: number }>("/api/feedback", "POST", said),
  teach: (id: string) => json<Lesson>(`${of(id)}/teach`),
  quiz: (id: string, kind?: string) => json<Quiz>(`${of(id)}/quiz`, "POST", kind ? { kind } : {}),
  mark: (quiz: string, answer: { choice?: string; point?: [number, number] }) =>
    json<Mark>(`/api/quizzes/${encodeURIComponent(quiz)}`, "POST", answer),
};

export const pictures = {
  thumbnail: (id: string) => `${of(id)}/thumbnail`,
  tile: (id: string, level: number, x: number, y: number) => `${of(id)}/tiles/${level}/${x}_${y}.jpg`,
  cells: (id: string, level: number, x: number, y: number, types: string) =>
    `${of(id)}/overlay/cells/${level}/${x}_${y}.png${types ? `?types=${types}` : ""}`,
  crop: (id: string, box: Box, size = 128) => `${of(id)}/crop?box=${box.map(Math.round).join(",")}&size=${size}`,
};
