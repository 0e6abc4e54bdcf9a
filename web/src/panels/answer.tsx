// An answer in words: each sentence with the tissue that it rests on, and two meters a person understands.
// - Model text is only ever text; labels such as R3.P7 in it become buttons.
// - Pointing at words lights their tissue, pointing at tissue lights its words.
import type { ComponentChildren, JSX } from "preact";
import { api, pictures, faultOf } from "../api";
import { Icon, type IconName } from "../icons";
import { focus, goTo, goToBox, hover, peek, spots, tell, tissueOf, type Spot, type Spots } from "../state";
import type { Box } from "../types";
import { cutAtLabels, relianceMarks, sentenceOf, sentences } from "../words";

/** A text whose sentences end in chips of what they rest on; `settled`: evidence is there or will not come. */
export function Cited({ text, shown, settled }: { text: string; shown: Spots; settled: boolean }): JSX.Element {
  const pieces = sentences(text);
  const last = pieces.length - 1;
  const placed = pieces.map(() => [] as Spot[]);
  // evidence whose words the text does not hold (edited by hand) stands at its end
  for (const spot of shown.items) {
    const at = sentenceOf(pieces, text, spot.words);
    placed[at < 0 ? last : at]?.push(spot);
  }
  const reaches = pieces.map((_, i) => shown.items.some((s) => i >= first(s) && i <= sentenceEnd(s)));
  function first(spot: Spot): number {
    const at = text.indexOf(spot.words.trim());
    return at < 0 ? 0 : pieces.findIndex((p) => at < p.end);
  }
  function sentenceEnd(spot: Spot): number {
    const at = sentenceOf(pieces, text, spot.words);
    return at < 0 ? last : at;
  }
  return (
    <p class="cited">
      {pieces.map((piece, i) => {
        const lit = shown.items.some((s) => (s.key === hover.value || s.key === focus.value) && i >= first(s) && i <= sentenceEnd(s));
        const bare = settled && !reaches[i];
        return (
          <span key={i} class={`sentence ${lit ? "lit" : ""} ${bare ? "bare" : ""}`}>
            <span title={bare ? "no evidence on the slide" : undefined}>
              <Labelled text={piece.text} slide={shown.slide} />
            </span>
            {bare && <span class="hidden"> (no evidence on the slide)</span>}
            {placed[i]!.length > 0 && <Chips shown={shown} items={placed[i]!} />}
          </span>
        );
      })}
    </p>
  );
}

function Labelled({ text, slide }: { text: string; slide: string }): JSX.Element {
  const parts: ComponentChildren[] = cutAtLabels(text).map((part, i) => {
    const box = i % 2 ? boxOfLabel(slide, part) : null;
    if (!box) return part;
    return (
      <button key={i} class="label" onClick={() => goToBox(slide, box)} title={`Go to ${part}`}>{part}</button>
    );
  });
  return <>{parts}</>;
}

function boxOfLabel(slide: string, label: string): Box | null {
  const known = tissueOf.value[slide];
  const found = known?.regions.find((r) => r.label === label) ?? known?.patches.find((p) => p.label === label);
  return found?.box ?? null;
}

/** Buttons that go to the tissue, best first. */
function Chips({ shown, items }: { shown: Spots; items: Spot[] }): JSX.Element {
  return (
    <span class="chips" role="list" aria-label="Evidence">
      {items.map((spot) => (
        <span role="listitem" key={spot.key}>
          <Chip shown={shown} spot={spot} />
        </span>
      ))}
    </span>
  );
}

/** A button that goes to the tissue; `pictured`: with its picture in it, else the picture comes when it is pointed at. */
export function Chip({ shown, spot, pictured = false }: { shown: Spots; spot: Spot; pictured?: boolean }): JSX.Element {
  const src = pictures.crop(shown.slide, around(spot.box), 160);
  const point = (event: { currentTarget: HTMLElement }) => {
    // pointing at words draws their tissue without moving the view
    if (spots.value?.source !== shown.source) spots.value = shown;
    hover.value = spot.key;
    if (!pictured) peek.value = { src, y: event.currentTarget.getBoundingClientRect().top };
  };
  const leave = () => {
    peek.value = null;
    if (hover.value === spot.key) hover.value = null;
  };
  return (
    <button
      class={`chip ${hover.value === spot.key ? "lit" : ""}`}
      data-scale={spot.scale}
      data-box={spot.box.join(",")}
      aria-pressed={focus.value === spot.key && spots.value?.source === shown.source}
      aria-label={`Evidence ${spot.rank}: ${spot.scale} ${spot.label}, go there`}
      onClick={() => {
        peek.value = null;
        goTo(shown, spot);
      }}
      onPointerEnter={point}
      onPointerLeave={leave}
      onFocus={point}
      onBlur={leave}
    >
      <b>{spot.rank}</b>
      <Icon name={spot.scale as IconName} />
      <span>{spot.label}</span>
      {pictured && <img src={src} alt="" loading="lazy" />}
    </button>
  );
}

/** A cell's picture needs some of its surroundings. */
function around([x0, y0, x1, y1]: Box): Box {
  const grow = Math.max(0, (128 - (x1 - x0)) / 2);
  return [Math.max(0, x0 - grow), Math.max(0, y0 - grow), x1 + grow, y1 + grow];
}

/** How much the slide mattered, and how sure the model is. */
export function Meters(props: {
  reliance: number;
  relianceWords: string;
  confidence: number;
  confidenceWords: string;
  supportWords?: string | null | undefined;
  /** Probability that the answer is right, of a model that was calibrated. */
  calibrated?: number | null | undefined;
}): JSX.Element {
  const marks = relianceMarks(props.reliance);
  return (
    <dl class="meters">
      <div>
        <dt>What the slide added</dt>
        <dd>
          <span class={`bars ${marks === 0 ? "none" : ""}`} aria-hidden="true">
            {[1, 2, 3, 4].map((n) => <i key={n} class={n <= marks ? "on" : ""} />)}
          </span>
          <Verdict words={props.relianceWords} />
        </dd>
      </div>
      <div>
        <dt>How sure it is</dt>
        <dd>
          <span class="track" aria-hidden="true"><i style={{ width: `${Math.round(100 * props.confidence)}%` }} /></span>
          {props.confidenceWords}; {calibration(props.calibrated)}
        </dd>
      </div>
      {props.supportWords && (
        <div>
          <dt>Put to the test</dt>
          <dd><Verdict words={props.supportWords} /></dd>
        </div>
      )}
    </dl>
  );
}

/** What stands before the colon is the gist. */
function Verdict({ words }: { words: string }): JSX.Element {
  const at = Math.max(0, words.indexOf(":"));
  return <span><b>{words.slice(0, at)}</b>{words.slice(at)}</span>;
}

function calibration(right: number | null | undefined): string {
  return right == null ? "not calibrated" : `of answers so sure about ${Math.round(100 * right)} % are right`;
}

/** What the reader must know, folded to one line. */
export function Warnings({ items }: { items: string[] }): JSX.Element | null {
  if (!items.length) return null;
  return (
    <details class="warnings">
      <summary>{items[0]}</summary>
      {items.length > 1 && <ul>{items.slice(1).map((w) => <li key={w}>{w}</li>)}</ul>}
    </details>
  );
}

/** Save bytes under a name. */
export function save(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export async function saveEvidence(answer: string, name: string): Promise<void> {
  try {
    save(await api.evidence(answer), `${name}.evidence.geojson`);
  } catch (error) {
    tell(faultOf(error));
  }
}
