// The conversation about one slide: questions, answers as they stream, and the place to write.
// - A sentence is read out when it is whole (aria-live on finished text), not word by word.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { faultWords } from "../api";
import { Icon } from "../icons";
import { ask, busy, conversation, forget, isRunning, remember, spotsOfTurn, stop, type Turn } from "../conversation";
import { active, drawn, goToBox, spots } from "../state";
import type { Slide } from "../types";
import { area, areaWords, boxOf, sentences } from "../words";
import { Cited, Meters, Warnings, saveEvidence } from "./answer";
import { Encoding, Seen } from "./encode";
import { Feedback } from "./feedback";

const STARTERS: { question: string; choices: string[] }[] = [
  { question: "What is the diagnosis?", choices: [] },
  { question: "Is this tissue benign or malignant?", choices: ["benign", "malignant"] },
  { question: "Is there necrosis on this slide?", choices: ["yes", "no"] },
  { question: "What is the growth pattern?", choices: ["glandular", "cribriform", "solid", "single file"] },
];

export function Chat(): JSX.Element | null {
  const slide = active.value;
  const list = useRef<HTMLDivElement>(null);
  const turns = conversation.value;
  const last = turns.at(-1);
  useEffect(() => {
    if (slide) remember(slide.id);
  }, [slide?.id]);
  // the question and the first words stay in sight, however much stands below them
  useEffect(() => list.current?.lastElementChild?.scrollIntoView({ block: "start" }), [last?.id, last?.state]);
  if (!slide) return null;
  const partly = !slide.encoded && slide.partial_regions > 0;
  if (!slide.encoded && !partly) return <Encoding slide={slide} />;
  return (
    <div class="chat">
      {partly && <Seen slide={slide} />}
      <div class="turns" ref={list}>
        {!turns.length && <Empty slide={slide} />}
        {turns.map((turn) => <TurnView key={turn.id} turn={turn} slide={slide} />)}
      </div>
      <LastSentence turn={last} />
      <Composer slide={slide} />
    </div>
  );
}

function Empty({ slide }: { slide: Slide }): JSX.Element {
  return (
    <div class="empty">
      <h2>Ask about {slide.name}</h2>
      <p class="muted">Every answer shows the regions, patches and cells that it rests on. Draw a box on the slide to ask about a part of it.</p>
      <div class="starters">
        {STARTERS.map(({ question, choices }) => (
          <button key={question} class="soft" onClick={() => void ask(slide.id, question, choices, null)}>{question}</button>
        ))}
      </div>
    </div>
  );
}

function TurnView({ turn, slide }: { turn: Turn; slide: Slide }): JSX.Element {
  const { answer } = turn;
  const shown = spotsOfTurn(turn);
  return (
    <article class="turn" data-state={turn.state}>
      <h3>
        {turn.question}
        {turn.polygon && (
          <button class="chip" onClick={() => goToBox(slide.id, boxOf(turn.polygon!))}>
            <Icon name="polygon" /> in the drawing{answer?.area ? `, ${areaWords(answer.area.um2 / 1e6)}` : ""}
          </button>
        )}
      </h3>
      {turn.text && <Cited text={turn.text} shown={shown} settled={answer !== null} />}
      <TurnState turn={turn} />
      {answer && (
        <>
          {answer.choices.length > 0 && <Options choices={answer.choices} probs={answer.choice_probs} />}
          <Meters
            reliance={answer.visual_reliance}
            relianceWords={answer.reliance_words}
            confidence={answer.confidence}
            confidenceWords={answer.confidence_words}
            supportWords={answer.support_words}
            calibrated={answer.calibrated}
          />
          <Warnings items={answer.warnings} />
          <div class="row wrap">
            <Feedback turn={turn} />
            <span class="grow" />
            {answer.evidence.length > 0 && (
              <>
                <button class="plain" onClick={() => (spots.value = shown)}>Show on slide</button>
                <button class="plain" onClick={() => void saveEvidence(answer.id, slide.name)}>GeoJSON</button>
              </>
            )}
          </div>
        </>
      )}
    </article>
  );
}

function TurnState({ turn }: { turn: Turn }): JSX.Element | null {
  const again = () => void ask(turn.slide, turn.question, turn.choices, turn.polygon);
  if (turn.state === "waiting")
    return <p class="muted busy">{turn.ahead > 0 ? `${turn.ahead} before you` : "Reading the slide"}</p>;
  if (turn.state === "speaking") return <p class="muted busy">Answering</p>;
  if (turn.state === "weighing") return <p class="muted busy">Finding what it rests on</p>;
  if (turn.state === "stopped")
    return <p class="muted">Stopped. <button class="plain" onClick={again}>Ask again</button></p>;
  if (turn.state === "failed")
    return (
      <p class="fault" role="alert">
        {turn.fault && faultWords(turn.fault)} <button class="plain" onClick={again}>Retry</button>
      </p>
    );
  return null;
}

function Options({ choices, probs }: { choices: string[]; probs: number[] }): JSX.Element {
  return (
    <ul class="options" aria-label="Options">
      {choices.map((choice, i) => (
        <li key={choice}>
          <span>{choice}</span>
          <span class="track" aria-hidden="true"><i style={{ width: `${Math.round(100 * (probs[i] ?? 0))}%` }} /></span>
          <span class="num">{Math.round(100 * (probs[i] ?? 0))} %</span>
        </li>
      ))}
    </ul>
  );
}

/** For screen readers: the last whole sentence that came. */
function LastSentence({ turn }: { turn: Turn | undefined }): JSX.Element {
  const whole = turn ? sentences(turn.text).filter((s) => turn.answer || /[.!?]$/.test(s.text.trim())) : [];
  return <div class="hidden" aria-live="polite">{whole.at(-1)?.text ?? ""}</div>;
}

function Composer({ slide }: { slide: Slide }): JSX.Element {
  const text = useSignal("");
  const closed = useSignal(false);
  const options = useSignal("");
  const box = drawn.value?.slide === slide.id ? drawn.value.polygon : null;
  const running = conversation.value.find(isRunning);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (box) field.current?.focus();
  }, [box]);

  const send = () => {
    const question = text.value.trim();
    if (!question || busy.value) return;
    const choices = closed.value ? options.value.split(/[,\n]/).map((o) => o.trim()).filter(Boolean) : [];
    text.value = "";
    drawn.value = null;
    void ask(slide.id, question, choices, box);
  };
  const mm2 = box && slide.mpp !== null ? area(box) * (slide.mpp / 1000) ** 2 : null;
  return (
    <form class="composer" onSubmit={(e) => (e.preventDefault(), send())}>
      {box && (
        <div class="row">
          <span class="chip is-drawn"><Icon name="polygon" /> your drawing{mm2 === null ? "" : `, ${areaWords(mm2)}`}</span>
          <button type="button" class="plain" onClick={() => (drawn.value = null)}>Remove</button>
        </div>
      )}
      <label class="hidden" for="question">Question</label>
      <textarea
        id="question"
        ref={field}
        rows={2}
        maxLength={1000}
        placeholder={box ? "Ask about your drawing" : "Ask about this slide"}
        value={text.value}
        onInput={(e) => (text.value = e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
            e.preventDefault();
            send();
          }
          if (e.key === "Escape" && running) stop(running.id);
        }}
      />
      {closed.value && (
        <label class="field">
          Options, with commas between
          <input value={options.value} placeholder="yes, no" onInput={(e) => (options.value = e.currentTarget.value)} />
        </label>
      )}
      <div class="row">
        <label class="check">
          <input type="checkbox" checked={closed.value} onChange={(e) => (closed.value = e.currentTarget.checked)} />
          choose among options
        </label>
        {conversation.value.length > 0 && <button type="button" class="plain" onClick={() => forget(slide.id)}>Clear</button>}
        <span class="grow" />
        {running ? (
          <button type="button" class="strong" onClick={() => stop(running.id)}><Icon name="stop" /> Stop</button>
        ) : (
          <button class="strong" disabled={!text.value.trim()}><Icon name="send" /> Ask</button>
        )}
      </div>
    </form>
  );
}
