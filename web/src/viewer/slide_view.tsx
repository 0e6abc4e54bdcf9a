// A slide with its furniture: scale bar, magnification, tools, the way back. Buttons are real buttons, not divs on a canvas.
import { useSignal, useSignalEffect, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon, type IconName } from "../icons";
import { LayerPanel } from "../panels/layers";
import {
  activeId, allHidden, closeSlide, flight, heatMaps, layers, needLayers, opened, setLayer, sheet, shownMap, spots, tell, tool, trail, type Tool,
} from "../state";
import { faultOf } from "../api";
import type { Slide } from "../types";
import { count } from "../words";
import { HEAT_STEPS } from "./palette";
import { slideKey } from "./keys";
import { overlay } from "./overlay";
import { heatParts } from "./paint";
import { magnification, objectiveWords, scaleBar } from "./scale";
import { View } from "./view";

/** At the start nobody asked for a focus ring. */
const QUIETLY = { preventScroll: true, focusVisible: false };

interface Reading {
  zoom: number;
  x: number;
  y: number;
  failed: number;
}

export function SlideView({ slide }: { slide: Slide }): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const view = useRef<View | null>(null);
  const reading = useSignal<Reading>({ zoom: 0, x: 0, y: 0, failed: 0 });
  const ready = useSignal(false);
  const alone = opened.value.length === 1;
  const active = activeId.value === slide.id;

  useEffect(() => {
    const made = new View(place.current!, slide);
    view.current = made;
    const stop = overlay(made, over.current!);
    const { osd } = made;
    const read = () => {
      const [x, y] = made.centre;
      reading.value = { ...reading.value, zoom: made.zoom, x, y };
    };
    osd.addHandler("update-viewport", read);
    osd.addHandler("open", () => {
      read();
      fly();
      ready.value = made.image!.getFullyLoaded();
      made.image!.addHandler("fully-loaded-change", (e) => (ready.value = e.fullyLoaded));
    });
    osd.addHandler("tile-load-failed", () => (reading.value = { ...reading.value, failed: reading.value.failed + 1 }));
    osd.addHandler("canvas-key", (e) => (e.preventDefaultAction = true));
    const canvas = osd.canvas as HTMLElement;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `Slide ${slide.name}. Arrows move, plus and minus zoom, N goes to evidence.`);
    canvas.addEventListener("keydown", (event) => {
      if (slideKey(made, event)) event.preventDefault();
    });
    canvas.addEventListener("focus", () => (activeId.value = slide.id));
    // only the slide takes the focus; the overview is for pointers
    osd.element.querySelectorAll<HTMLElement>(".navigator, .navigator [tabindex]").forEach((e) => (e.tabIndex = -1));
    if (!document.activeElement || document.activeElement === document.body) canvas.focus(QUIETLY);
    return () => {
      stop();
      made.close();
      view.current = null;
    };
  }, [slide.id]);
  useEffect(() => {
    if (view.current) view.current.slide = slide;
  }, [slide]);
  useEffect(() => {
    needLayers(slide).catch((error: unknown) => tell(faultOf(error)));
  }, [slide.id, slide.encoded]);

  const fly = () => {
    const to = flight.peek();
    const made = view.current;
    if (!to || to.slide !== slide.id || !made?.image) return;
    flight.value = null;
    trail.value = [...trail.peek(), { slide: slide.id, box: made.seen }].slice(-20);
    made.flyTo(to.box);
  };
  useSignalEffect(() => {
    if (flight.value) fly();
  });

  const goBack = () => {
    const last = trail.value.findLast((t) => t.slide === slide.id);
    if (!last || !view.current) return;
    trail.value = trail.value.filter((t) => t !== last);
    view.current.flyTo(last.box, 0);
  };

  return (
    <section
      class={`view ${active && !alone ? "is-active" : ""}`}
      data-state={ready.value ? "ready" : "opening"}
      data-slide={slide.name}
      aria-label={`Slide ${slide.name}`}
    >
      <div class="osd" ref={place} />
      <canvas class="over" ref={over} aria-hidden="true" />
      {!alone && (
        <div class="plate">
          <button class="plain" aria-pressed={active} onClick={() => (activeId.value = slide.id)}>{slide.name}</button>
          <button class="tool small" aria-label={`Close ${slide.name}`} onClick={() => closeSlide(slide.id)}>
            <Icon name="close" />
          </button>
        </div>
      )}
      <Tools slide={slide} onBack={goBack} />
      {sheet.value === "layers" && active && <LayerPanel slide={slide} />}
      <Readout slide={slide} reading={reading} />
      <Magnifiers slide={slide} view={() => view.current} />
      <Legend slide={slide} reading={reading} />
    </section>
  );
}

const TOOLS: { tool: Tool; icon: IconName; words: string }[] = [
  { tool: "look", icon: "hand", words: "Move the slide" },
  { tool: "box", icon: "box", words: "Draw a box and ask about it (R)" },
  { tool: "polygon", icon: "polygon", words: "Draw a polygon and ask about it (P); a click on its first corner closes it" },
];

function Tools({ slide, onBack }: { slide: Slide; onBack: () => void }): JSX.Element {
  const back = trail.value.some((t) => t.slide === slide.id);
  return (
    <div class="tools" role="toolbar" aria-label="Tools">
      {TOOLS.map((t) => (
        <button
          key={t.tool}
          class="tool"
          title={t.words}
          aria-label={t.words}
          aria-pressed={tool.value === t.tool}
          onClick={() => {
            activeId.value = slide.id;
            tool.value = t.tool;
          }}
        >
          <Icon name={t.icon} />
        </button>
      ))}
      <button
        class="tool"
        title="Layers"
        aria-label="Layers"
        aria-expanded={sheet.value === "layers" && activeId.value === slide.id}
        onClick={() => {
          activeId.value = slide.id;
          sheet.value = sheet.value === "layers" ? "none" : "layers";
        }}
      >
        <Icon name="layers" />
      </button>
      <button
        class="tool"
        title="Hide everything drawn (H)"
        aria-label="Hide everything drawn"
        aria-pressed={allHidden.value}
        onClick={() => (allHidden.value = !allHidden.value)}
      >
        <Icon name="eye" />
      </button>
      {back && (
        <button class="tool" title="Back to the former view" aria-label="Back to the former view" onClick={onBack}>
          <Icon name="back" />
        </button>
      )}
    </div>
  );
}

function Readout({ slide, reading }: { slide: Slide; reading: Signal<Reading> }): JSX.Element | null {
  const { zoom, x, y, failed } = reading.value;
  if (!zoom) return null;
  const { mpp } = slide;
  const bar = scaleBar(zoom, mpp);
  const at = mpp === null ? `${count(Math.round(x))}, ${count(Math.round(y))} px` : `${mm(x * mpp)}, ${mm(y * mpp)} mm`;
  return (
    <div class="reading">
      <div class="at">
        {mpp !== null && <b data-testid="magnification">{objectiveWords(magnification(zoom, mpp))}</b>}
        {mpp === null && <b>unknown scale</b>}
        {zoom > 1.01 && <em>digital zoom</em>}
        <span class="xy">{at}</span>
        {failed > 0 && <em>{count(failed)} tiles could not be read</em>}
      </div>
      <div class="scale" title={mpp === null ? "This slide does not say its microns per pixel" : "Scale"}>
        <i style={{ width: `${bar.px}px` }} />
        <span>{bar.words}</span>
      </div>
    </div>
  );
}

const mm = (um: number) => (um / 1000).toFixed(2);

function Magnifiers({ slide, view }: { slide: Slide; view: () => View | null }): JSX.Element {
  return (
    <div class="magnifiers" role="group" aria-label="Magnification">
      <button class="tool" aria-label="Closer" title="Closer (+)" onClick={() => view()?.zoomBy(1.6)}><Icon name="plus" /></button>
      <button class="tool" aria-label="Farther" title="Farther (−)" onClick={() => view()?.zoomBy(1 / 1.6)}><Icon name="minus" /></button>
      <button class="tool" aria-label="Whole slide" title="Whole slide (0)" onClick={() => view()?.fit()}><Icon name="fit" /></button>
      {slide.mpp !== null && [2, 5, 10, 20, 40].map((x) => (
        <button key={x} class="tool words" aria-label={`Magnification ${x} times`} onClick={() => view()?.magnify(x)}>{x}×</button>
      ))}
    </div>
  );
}

/** What the colours of the evidence mean. */
function Legend({ slide, reading }: { slide: Slide; reading: Signal<Reading> }): JSX.Element | null {
  const shown = spots.value;
  if (!shown || shown.slide !== slide.id || !shown.items.length || allHidden.value) return null;
  const map = shownMap();
  const heat = map && heatParts(map, reading.value.zoom);
  const most = heat ? heat.most : Math.max(...shown.items.map((s) => s.score));
  const coming = shown.answer !== null && heatMaps.value[shown.answer] === "coming";
  return (
    <div class="legend" role="note" data-heat={map ? "map" : coming ? "coming" : "none"}>
      {layers.value.heat.on && coming && <span class="busy">leaving out each region and patch</span>}
      {layers.value.heat.on && !coming && (
        <>
          <span class="ramp" aria-hidden="true">{HEAT_STEPS.map((c) => <i key={c} style={{ background: c }} />)}</span>
          <span>0 to {+most.toPrecision(2)}, {heat ? `worth of ${heat.what} to the answer, ${map.unit}` : shown.what}; not a probability</span>
        </>
      )}
      {!layers.value.heat.on && <span>{shown.items.length} {shown.items.length === 1 ? "place" : "places"}</span>}
      <button class="plain" aria-pressed={layers.value.heat.on} title="Colour them by their score (G)" onClick={() => setLayer("heat", { on: !layers.value.heat.on })}>
        {layers.value.heat.on ? "No heat" : "Heat"}
      </button>
      <button class="plain" onClick={() => (spots.value = null)}>Clear</button>
    </div>
  );
}
