// The preliminary report: written by the model, each sentence with its tissue, edited by a person, exported.
// - A sentence that a person changed is marked so, here and in what is exported.
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { api, faultOf, faultWords } from "../api";
import { active, spots, spotsOf, status, tell, type Spots } from "../state";
import type { Fault, Report, Slide, Statement } from "../types";
import { Chip, Meters, Warnings, save } from "./answer";
import { Encoding } from "./encode";

interface Draft {
  state: "waiting" | "speaking" | "weighing" | "done" | "failed";
  text: string;
  report: Report | null;
  /** The sentences as they now read. */
  now: string[];
  fault: Fault | null;
}

const drafts = signal<Record<string, Draft>>({});
const running = new Map<string, AbortController>();

function change(slide: string, to: Partial<Draft>): void {
  const none: Draft = { state: "waiting", text: "", report: null, now: [], fault: null };
  drafts.value = { ...drafts.value, [slide]: { ...none, ...drafts.value[slide], ...to } };
}

async function write(slide: string): Promise<void> {
  const control = new AbortController();
  running.set(slide, control);
  change(slide, { state: "waiting", text: "", report: null, now: [], fault: null });
  let text = "";
  try {
    for await (const { event, data } of api.report(slide, control.signal)) {
      if (event === "token") change(slide, { state: "speaking", text: (text += (data as { text: string }).text) });
      if (event === "weighing") change(slide, { state: "weighing" });
      if (event === "report") {
        const report = data as Report;
        change(slide, { state: "done", report, now: report.statements.map((s) => s.text) });
      }
    }
    if (!drafts.value[slide]?.report) throw new Error("the report was cut off");
  } catch (error) {
    if (control.signal.aborted) {
      const { [slide]: _, ...others } = drafts.value;
      drafts.value = others;
    } else change(slide, { state: "failed", fault: faultOf(error) });
  } finally {
    running.delete(slide);
  }
}

const WORDS: Partial<Record<Draft["state"], string>> = {
  waiting: "Reading the slide",
  speaking: "Writing",
  weighing: "Finding what each sentence rests on",
};
const FORMATS = ["pdf", "html", "json"] as const;

async function hand(slide: Slide, draft: Draft, format: string): Promise<void> {
  const statements = draft.report!.statements.map((s, i) => ({ text: draft.now[i]!, original: s.text }));
  try {
    save(await api.export(slide.id, format, { statements }), `${slide.name}.report.${format}`);
  } catch (error) {
    tell(faultOf(error));
  }
}

export function ReportTab(): JSX.Element | null {
  const slide = active.value;
  if (!slide) return null;
  if (!slide.encoded) return <Encoding slide={slide} />;
  const draft = drafts.value[slide.id];
  if (!draft)
    return (
      <div class="empty">
        <h2>Preliminary report</h2>
        <p class="muted">The model describes the slide sentence by sentence and shows what each sentence rests on. You edit it before anybody reads it.</p>
        <button class="strong" onClick={() => void write(slide.id)}>Write a report</button>
      </div>
    );
  const { report } = draft;
  return (
    <div class="panel report" data-state={draft.state}>
      <div class="stamp">Preliminary machine text. Not a diagnosis.</div>
      {!report && draft.text && <p class="cited">{draft.text}</p>}
      {!report && draft.state !== "failed" && (
        <p class="muted busy">
          {WORDS[draft.state]}{" "}
          <button class="plain" onClick={() => running.get(slide.id)?.abort()}>Stop</button>
        </p>
      )}
      {draft.fault && (
        <p class="fault" role="alert">{faultWords(draft.fault)} <button class="plain" onClick={() => void write(slide.id)}>Retry</button></p>
      )}
      {report && (
        <>
          <ol class="statements">
            {report.statements.map((s, i) => (
              <Sentence key={i} slide={slide} statement={s} index={i} now={draft.now[i]!} onEdit={(text) => change(slide.id, { now: draft.now.with(i, text) })} />
            ))}
          </ol>
          <Warnings items={report.warnings} />
          <p class="muted">{report.note}</p>
          <div class="row wrap" role="group" aria-label="Export">
            {FORMATS.filter((f) => f !== "pdf" || status.value?.can.pdf).map((f) => (
              <button key={f} class="soft" onClick={() => void hand(slide, draft, f)}>{f.toUpperCase()}</button>
            ))}
            <span class="grow" />
            <button class="plain" onClick={() => void write(slide.id)}>Write again</button>
          </div>
        </>
      )}
    </div>
  );
}

interface SentenceProps {
  slide: Slide;
  statement: Statement;
  index: number;
  now: string;
  onEdit: (text: string) => void;
}

function Sentence({ slide, statement, index, now, onEdit }: SentenceProps): JSX.Element {
  const source = `report/${slide.id}/${index}`;
  const shown: Spots = { slide: slide.id, source, what: "worth to the sentence, nats", answer: null, outline: null, items: spotsOf(source, statement.evidence) };
  const edited = now !== statement.text;
  const lit = spots.value?.source === source;
  return (
    <li class={lit ? "lit" : ""}>
      <label class="hidden" for={source}>Sentence {index + 1}</label>
      <textarea id={source} class="sheet" rows={Math.ceil(now.length / 44)} value={now} onInput={(e) => onEdit(e.currentTarget.value)} onFocus={() => (spots.value = shown)} />
      <div class="row wrap">
        {edited && <span class="badge">edited</span>}
        {edited && <button class="plain" onClick={() => onEdit(statement.text)}>Undo</button>}
        {shown.items.map((spot) => <Chip key={spot.key} shown={shown} spot={spot} />)}
        {!shown.items.length && <span class="muted">no evidence on the slide</span>}
        {statement.missing.map((label) => <span key={label} class="badge bad">{label} is not on this slide</span>)}
      </div>
      <details class="fold">
        <summary>How sure, and from where</summary>
        <Meters
          reliance={statement.visual_reliance}
          relianceWords={statement.reliance_words}
          confidence={statement.confidence}
          confidenceWords={statement.confidence_words}
          supportWords={statement.support_words}
        />
      </details>
    </li>
  );
}
