// What is drawn over the slide: one switch and one opacity a layer, and the legend of the cells.
import type { JSX } from "preact";
import { Icon } from "../icons";
import { hiddenTypes, layers, setLayer, sheet, type LayerName } from "../state";
import type { Slide } from "../types";
import { cellMark, type CellMark } from "../viewer/palette";
import { count } from "../words";

const NAMES: [LayerName, string][] = [
  ["tissue", "Tissue"],
  ["regions", "Regions"],
  ["kept", "Patches the model reads"],
  ["cells", "Cells by type"],
  ["heat", "Occlusion heat"],
];

export function LayerPanel({ slide }: { slide: Slide }): JSX.Element {
  return (
    <div class="card layers" role="group" aria-label="Layers">
      <div class="row">
        <h2>Layers</h2>
        <button class="tool small" aria-label="Close layers" onClick={() => (sheet.value = "none")}><Icon name="close" /></button>
      </div>
      {!slide.encoded && <p class="muted">Tissue, regions and cells are known once the slide is encoded.</p>}
      {NAMES.map(([name, words]) => {
        const { on, opacity } = layers.value[name];
        return (
          <div class="layer" key={name}>
            <label>
              <input
                type="checkbox"
                checked={on}
                disabled={!slide.encoded && name !== "heat"}
                onChange={(e) => setLayer(name, { on: e.currentTarget.checked })}
              />
              {words}
            </label>
            <input
              type="range"
              min="0.1"
              max="1"
              step="0.05"
              value={opacity}
              disabled={!on}
              aria-label={`Opacity of ${words.toLowerCase()}`}
              onInput={(e) => setLayer(name, { opacity: Number(e.currentTarget.value) })}
            />
          </div>
        );
      })}
      {slide.cell_types && layers.value.cells.on && <CellTypes slide={slide} />}
    </div>
  );
}

function CellTypes({ slide }: { slide: Slide }): JSX.Element {
  const flip = (t: number) => {
    const now = hiddenTypes.value;
    hiddenTypes.value = now.includes(t) ? now.filter((other) => other !== t) : [...now, t];
  };
  return (
    <ul class="celltypes" aria-label="Cell types">
      {slide.cell_types!.map((type, t) => (
        <li key={type.name}>
          <label>
            <input type="checkbox" checked={!hiddenTypes.value.includes(t)} onChange={() => flip(t)} />
            <Glyph mark={cellMark(type.name)} />
            <span>{type.name}</span>
            <span class="muted num">{count(type.count)}</span>
          </label>
        </li>
      ))}
    </ul>
  );
}

const GLYPHS: Record<CellMark["shape"], string> = {
  circle: "M9 4a5 5 0 1 1 0 10A5 5 0 0 1 9 4z",
  ring: "M9 4a5 5 0 1 1 0 10A5 5 0 0 1 9 4z",
  triangle: "M9 4l5.5 9.5h-11z",
  square: "M4 4h10v10H4z",
  diamond: "M9 3l6 6-6 6-6-6z",
  cross: "M4 4l10 10M14 4L4 14",
};

function Glyph({ mark }: { mark: CellMark }): JSX.Element {
  return (
    <svg viewBox="0 0 18 18" width="18" height="18" class="glyph" aria-hidden="true">
      <path d={GLYPHS[mark.shape]} fill="none" stroke={mark.casing} stroke-width="5" />
      <path d={GLYPHS[mark.shape]} fill="none" stroke={mark.colour} stroke-width="2.5" stroke-dasharray={mark.dash.join(" ")} />
    </svg>
  );
}
