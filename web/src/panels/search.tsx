// Search by words: patches that look like them, ranked and lit on the slide.
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { api, faultOf, faultWords } from "../api";
import { Icon } from "../icons";
import { active, spotsOfMatches, spots, type Spots } from "../state";
import type { Fault, Found } from "../types";
import { Chip } from "./answer";
import { Encoding } from "./encode";

const LIMIT = 24;
const EXAMPLES = ["lymphocytes", "gland formation", "necrosis", "mitosis"];
const results = signal<Record<string, Found>>({});
const words = signal("");
const busy = signal(false);
const fault = signal<Fault | null>(null);

/** Look for patches of a slide that look like words, and draw them. */
export async function search(slide: string, query: string): Promise<void> {
  if (!query.trim()) return;
  words.value = query;
  busy.value = true;
  fault.value = null;
  try {
    const got = await api.search(slide, query.trim(), LIMIT);
    results.value = { ...results.value, [slide]: got };
    spots.value = shownOf(slide, got);
  } catch (error) {
    fault.value = faultOf(error);
  }
  busy.value = false;
}

function shownOf(slide: string, found: Found): Spots {
  const source = `search/${slide}/${found.query}`;
  return { slide, source, what: "likeness to the words", answer: null, outline: null, items: spotsOfMatches(source, found.matches) };
}

export function SearchTab(): JSX.Element | null {
  const slide = active.value;
  if (!slide) return null;
  if (!slide.encoded) return <Encoding slide={slide} />;
  const found = results.value[slide.id];
  return (
    <div class="panel">
      <form class="row" role="search" onSubmit={(e) => (e.preventDefault(), void search(slide.id, words.value))}>
        <label class="hidden" for="search">Words to look for</label>
        <input id="search" class="grow" type="search" maxLength={200} placeholder="What does it look like?" value={words.value} onInput={(e) => (words.value = e.currentTarget.value)} />
        <button class="strong" disabled={busy.value}><Icon name="search" /> Search</button>
      </form>
      <div class="starters">
        {EXAMPLES.map((q) => <button key={q} class="soft" onClick={() => void search(slide.id, q)}>{q}</button>)}
      </div>
      {fault.value && <p class="fault" role="alert">{faultWords(fault.value)}</p>}
      <div aria-live="polite">
        {busy.value && <p class="muted busy">Looking</p>}
        {found && !busy.value && (
          <p class="muted">
            {found.enough ? `${found.matches.length} patches like “${found.query}”, best first.` : `Nothing on this slide is similar enough to “${found.query}”.`}
          </p>
        )}
      </div>
      {found && <Matches shown={shownOf(slide.id, found)} />}
      {found?.note && <p class="muted">{found.note}</p>}
    </div>
  );
}

function Matches({ shown }: { shown: Spots }): JSX.Element {
  return (
    <ol class="matches">
      {shown.items.map((spot) => (
        <li key={spot.key}>
          <Chip shown={shown} spot={spot} pictured />
        </li>
      ))}
    </ol>
  );
}
