// Learning on the open slide: features with examples, and a quiz whose truth is known.
// - While a quiz is open nothing is drawn on the slide, so that nothing gives the answer away.
import { signal, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { api, faultOf, faultWords, pictures } from "../api";
import { Icon } from "../icons";
import { active, allHidden, clicked, goToBox, opened, openSlide, spots, status, tab, wantsClick } from "../state";
import type { Box, Fault, Lesson, Mark, Point, Quiz, Slide } from "../types";
import { search } from "./search";

const lessons = signal<Record<string, Lesson>>({});

export function TeachTab(): JSX.Element | null {
  const slide = active.value;
  const fault = useSignal<Fault | null>(null);
  useEffect(() => {
    if (!slide || lessons.value[slide.id]) return;
    api
      .teach(slide.id)
      .then((got) => (lessons.value = { ...lessons.value, [slide.id]: got }))
      .catch((error: unknown) => (fault.value = faultOf(error)));
  }, [slide?.id]);
  if (!slide) return null;
  const lesson = lessons.value[slide.id];
  return (
    <div class="panel">
      {fault.value && <p class="fault" role="alert">{faultWords(fault.value)}</p>}
      {lesson?.quizzes.length ? <QuizBox key={slide.id} slide={slide} /> : null}
      {lesson?.why_not && <p class="muted">{lesson.why_not}</p>}
      {lesson && lesson.features.length > 0 && (
        <>
          <h2>What to look for</h2>
          <ul class="features">{lesson.features.map((f) => <FeatureCard key={f.name} slide={slide} feature={f} />)}</ul>
        </>
      )}
    </div>
  );
}

function FeatureCard({ slide, feature }: { slide: Slide; feature: Lesson["features"][number] }): JSX.Element {
  const see = (where: string, box: Box) => {
    if (!opened.value.includes(where)) openSlide(where, true);
    requestAnimationFrame(() => goToBox(where, box));
  };
  return (
    <li>
      <h3>{feature.name}</h3>
      <p>{feature.words}</p>
      <div class="examples">
        {feature.examples.map((e) => (
          <button key={`${e.slide}${e.box.join()}`} onClick={() => see(e.slide, e.box)} aria-label={`Example of ${feature.name}: ${e.label}`}>
            <img src={pictures.crop(e.slide, e.box, 160)} alt="" loading="lazy" />
          </button>
        ))}
      </div>
      {slide.encoded && status.value?.can.search && (
        <button class="plain" onClick={() => ((tab.value = "search"), void search(slide.id, feature.query))}>Find more on this slide</button>
      )}
    </li>
  );
}

function QuizBox({ slide }: { slide: Slide }): JSX.Element {
  const quiz = useSignal<Quiz | null>(null);
  const mark = useSignal<Mark | null>(null);
  const fault = useSignal<Fault | null>(null);
  const place = clicked.value?.slide === slide.id ? clicked.value.point : null;

  const next = async () => {
    fault.value = mark.value = clicked.value = spots.value = null;
    try {
      const asked = await api.quiz(slide.id);
      quiz.value = asked;
      allHidden.value = true;
      wantsClick.value = asked.kind === "point";
      if (asked.box) goToBox(slide.id, asked.box);
    } catch (error) {
      fault.value = faultOf(error);
    }
  };
  const reply = async (answer: { choice?: string; point?: Point }) => {
    try {
      mark.value = await api.mark(quiz.value!.id, answer);
      wantsClick.value = allHidden.value = false;
      showTruth(slide.id, quiz.value!.id, mark.value);
    } catch (error) {
      fault.value = faultOf(error);
    }
  };
  useEffect(() => () => void (wantsClick.value = allHidden.value = false), []);

  return (
    <section class="quiz card" data-state={mark.value ? "marked" : quiz.value ? "asked" : "none"} aria-label="Quiz">
      <div class="row">
        <h2>Quiz</h2>
        <span class="grow" />
        {mark.value && <b class="num">{mark.value.score.right} of {mark.value.score.asked}</b>}
      </div>
      {quiz.value && <p>{quiz.value.question}</p>}
      {quiz.value && !mark.value && quiz.value.kind === "choice" && (
        <div class="starters">
          {quiz.value.choices.map((c) => <button key={c} class="soft" onClick={() => void reply({ choice: c })}>{c}</button>)}
        </div>
      )}
      {quiz.value && !mark.value && quiz.value.kind === "point" && (
        <div class="row">
          <span class="muted">{place ? "Marked. Click again to move it." : "Click the place on the slide."}</span>
          <span class="grow" />
          <button class="strong" disabled={!place} onClick={() => void reply({ point: [Math.round(place![0]), Math.round(place![1])] })}>That is it</button>
        </div>
      )}
      {mark.value && (
        <p role="status" class={mark.value.correct ? "right" : "wrong"}>
          <b>{mark.value.correct ? "Right." : `Not right. Truth: ${mark.value.truth}.`}</b> {mark.value.words}
        </p>
      )}
      {fault.value && <p class="fault" role="alert">{faultWords(fault.value)}</p>}
      {(!quiz.value || mark.value) && (
        <button class="strong" onClick={() => void next()}><Icon name="teach" /> {quiz.value ? "Next question" : "Start a quiz"}</button>
      )}
    </section>
  );
}

function showTruth(slide: string, quiz: string, mark: Mark): void {
  if (!mark.boxes.length) return;
  const items = mark.boxes.map((box, i) => ({
    key: `${quiz}/${i}`, rank: i + 1, label: "", scale: "cell" as const, box, contours: [], score: 1, words: "",
  }));
  spots.value = { slide, source: quiz, what: "truth", answer: null, outline: null, items };
  goToBox(slide, mark.boxes[0]!);
}
