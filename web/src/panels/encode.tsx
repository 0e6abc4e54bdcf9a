// A slide that is not encoded yet: why it must be, how far it is by stage, and how to stop it.
// - It can be asked about once its first regions are read; what is left to read is then told in a line.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { api, faultOf, faultWords } from "../api";
import { replaceSlide } from "../state";
import type { Fault, Job, Slide, Stage } from "../types";
import { count, timeWords } from "../words";

const WORDS: Record<Stage["name"], string> = {
  tissue: "Finding tissue",
  regions: "Reading regions",
  patches: "Encoding patches",
  cells: "Finding cells",
};
const AGAIN_MS = 1500;

const stageOf = (job: Job | null, name: Stage["name"]) => job?.stages.find((stage) => stage.name === name);
const doneOf = (job: Job, name: Stage["name"]) => stageOf(job, name)?.done ?? 0;
const going = (job: Job | null) => job?.state === "queued" || job?.state === "running";

/** Follows a job and puts what it says in the slide, until it ends. */
async function follow(slide: Slide, job: Job, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && going(job)) {
    try {
      for await (const { data } of api.watch(job.id, signal)) {
        job = data as Job;
        replaceSlide({ ...slide, job, partial_regions: Math.max(slide.partial_regions, doneOf(job, "regions")) });
      }
      if (going(job)) await new Promise((wake) => setTimeout(wake, AGAIN_MS));
    } catch {
      if (signal.aborted) return;
      await new Promise((wake) => setTimeout(wake, AGAIN_MS));
    }
  }
  if (!signal.aborted) replaceSlide(await api.slide(slide.id));
}

/** Follows the job of a slide, starts and ends it. */
function useEncoding(slide: Slide) {
  const fault = useSignal<Fault | null>(null);
  const job = slide.job;

  useEffect(() => {
    if (!job || !going(job)) return;
    const control = new AbortController();
    follow(slide, job, control.signal).catch((error: unknown) => (fault.value = faultOf(error)));
    return () => control.abort();
  }, [slide.id, job?.id]);

  const act = async (work: () => Promise<void>) => {
    fault.value = null;
    try {
      await work();
    } catch (error) {
      fault.value = faultOf(error);
    }
  };
  return {
    job,
    fault: fault.value ?? slide.error ?? (job?.state === "failed" ? job.error : null),
    start: () => act(async () => replaceSlide({ ...slide, job: await api.encode(slide.id) })),
    cancel: () => act(async () => void (await api.cancel(job!.id))),
    giveMpp: (mpp: number) => act(async () => replaceSlide(await api.setMpp(slide.id, mpp))),
  };
}

/** Above the conversation about a slide that is still being read. */
export function Seen({ slide }: { slide: Slide }): JSX.Element {
  const { job, fault, start, cancel } = useEncoding(slide);
  const patches = stageOf(job, "patches");
  const share = patches?.total ? Math.floor((100 * patches.done) / patches.total) : null;
  return (
    <div class="seen" data-state={job?.state ?? "none"}>
      <div class="row">
        <span>
          <b>Seen so far: {share === null ? `${count(slide.partial_regions)} regions` : `${share} % of tissue`}.</b>{" "}
          Answers rest on that part and may change.
        </span>
        {going(job) ? (
          <button class="plain" onClick={() => void cancel()}>Cancel</button>
        ) : (
          <button class="plain" onClick={() => void start()}>Go on encoding</button>
        )}
      </div>
      {share !== null && going(job) && <progress aria-label="Tissue read" max={100} value={share} />}
      {fault && <p class="fault" role="alert">{faultWords(fault)}</p>}
    </div>
  );
}

export function Encoding({ slide }: { slide: Slide }): JSX.Element {
  const mpp = useSignal("");
  const { job, fault: shown, start, cancel, giveMpp } = useEncoding(slide);
  return (
    <div class="empty encode" data-state={job?.state ?? "none"}>
      <h2>{going(job) ? "Encoding" : "Not encoded yet"}: {slide.name}</h2>
      {going(job) ? (
        <Progress job={job!} onCancel={() => void cancel()} />
      ) : (
        <>
          <p class="muted">Before it can be asked about, the slide is read once at four scales: cells, patches, regions and the whole. You can look at it meanwhile.</p>
          {slide.partial_regions > 0 && <p class="muted">{count(slide.partial_regions)} regions were read before; it goes on from there.</p>}
          {job?.state === "cancelled" && <p class="muted">Cancelled.</p>}
          {slide.mpp === null && !slide.error && (
            <form class="row wrap" onSubmit={(e) => (e.preventDefault(), void giveMpp(Number(mpp.value)))}>
              <label class="field">
                This file does not say its microns per pixel
                <input type="number" min="0.05" max="20" step="any" required value={mpp.value} placeholder="0.25" onInput={(e) => (mpp.value = e.currentTarget.value)} />
              </label>
              <button class="soft">Set</button>
            </form>
          )}
          <button class="strong" disabled={slide.mpp === null || slide.error !== null} onClick={() => void start()}>
            {slide.partial_regions > 0 ? "Go on encoding" : "Encode this slide"}
          </button>
        </>
      )}
      {shown && <p class="fault" role="alert">{faultWords(shown)}</p>}
    </div>
  );
}

function Progress({ job, onCancel }: { job: Job; onCancel: () => void }): JSX.Element {
  return (
    <>
      {job.state === "queued" && <p class="muted busy">Waiting for another slide</p>}
      <ol class="stages">
        {job.stages.map(({ name, done, total }) => (
          <li key={name}>
            <label for={`stage-${name}`}>{WORDS[name]}</label>
            <span class="num muted">{count(done)}{total === null ? " found" : ` of ${count(total)}`}</span>
            {total !== null && <progress id={`stage-${name}`} max={Math.max(1, total)} value={done} />}
          </li>
        ))}
      </ol>
      <div class="row">
        {job.eta_s !== null && <span class="muted">{timeWords(job.eta_s)}</span>}
        <span class="grow" />
        <button class="soft" onClick={onCancel}>Cancel</button>
      </div>
    </>
  );
}
