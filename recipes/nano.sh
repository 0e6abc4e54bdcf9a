#!/usr/bin/env bash
# The embedded model, from nothing to weights in the package, on one page. No GPU, no network, no other data.
# Four stages behind the encoders of pixels; each proves the weights that it starts from (stage.json).
# About six hours on 2 cores, two of them behind the features; every step goes on where it stopped.
# `recipes/nano.sh RUN [SLIDES] [SLIDES OF THE SECOND EDITION]`; smaller numbers for a try.
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-runs/nano}
slides=${2:-800}
second=${3:-400}
py=.venv/bin/python
hwsi=.venv/bin/hwsi
weights=src/hwsi/weights/nano
job=$run/features       # patch and cell vectors, by the trained encoders
told=$run/told          # the same with region and slide vectors of stage 1
# mixed precision makes most steps up to twice as fast on CPUs that multiply bf16
bf16=$(grep -qE "avx512_bf16|amx_bf16" /proc/cpuinfo 2>/dev/null && echo --bf16 || true)
precision=placement.precision=$([ -n "$bf16" ] && echo bf16 || echo fp32)

# slides: drawn tissue with its truth; the seed decides everything
$hwsi phantom cohort "$run/cohort" --slides "$slides" --seed 1 --split train

# pixels: patches and cells with their truth; patch encoder and text tower, cell encoder. Contrast with phrases alone
# (hwsi train pretrain) finds no mitosis in a patch: here every attribute is asked for, and the phrase beside them
[ -f "$run/pixels/done.json" ] || $py -m hwsi.training.nano.pixels "$run/cohort" "$run/pixels" --per-slide 32
$py -m hwsi.training.nano.patch "$run/pixels" "$run/patch" --steps "${PATCH_STEPS:-6000}" $bf16
$py -m hwsi.training.nano.cell "$run/cohort" "$run/cell" --steps "${CELL_STEPS:-2500}"

# features: every pixel is read once more; slides of the second edition are drawn, read and deleted
$py -m hwsi.training.nano.features "$run/cohort" "$run/patch" "$run/cell" "$job"
$py -m hwsi.training.nano.regenerate "$run/second" "$job" --slides "$second" --edition 2 --encoders "$run/patch" "$run/cell"
cohorts=("$run/cohort" "$run/second")
reports=()
for cohort in "${cohorts[@]}"; do
    $hwsi phantom texts "$cohort" --features "$job" --out "$cohort/texts" --preferences 0
    reports+=("$cohort/texts/reports.jsonl")
done
list() { local IFS=,; echo "[$*]"; }

# words: the language model learns to read notes; it has to exist before projectors can speak to it
$py -m hwsi.training.nano.words --cohort "${cohorts[@]}" --features "$job" --out "$run/words" --steps "${WORDS_STEPS:-450}" $bf16

# 1 align: region, slide and text encoders and CCAF; then region and slide vectors anew, without pixels
$py -m hwsi.training.nano.align --start "$run/words" --cohort "${cohorts[@]}" --features "$job" --reports "${reports[@]}" \
    --text "$run/patch/text.safetensors" --out "$run/align" --steps "${ALIGN_STEPS:-1200}" $bf16
[ -f "$told/done" ] || { $py -m hwsi.training.nano.refresh "$job" "$run/align" "$told" && touch "$told/done"; }

# 2 project: projectors alone, from reports and captions
$hwsi train project --config nano-project --start "$run/align" --out "$run/project" \
    --set "data.features=$told" --set "data.reports=$(list "${reports[@]}")" \
    --set "steps=${PROJECT_STEPS:-300}" --set "$precision"

# 3 instruct: all of it, from questions, descriptions, reports
$py -m hwsi.training.nano.instruct --start "$run/project" --align "$run/align" --cohort "${cohorts[@]}" --features "$job" \
    --out "$run/instruct" --steps "${INSTRUCT_STEPS:-8600}" $bf16

# 4 prefer: a simulated expert says which of two sampled reports is better, on slides that no stage has learned from:
# there the model errs where it does not know, and not only where a sample slips
asked=$run/asked
$py -m hwsi.training.nano.regenerate "$asked" "$asked/job" --slides "${EXPERT_SLIDES:-200}" --seed 2 --encoders "$run/patch" "$run/cell"
[ -f "$asked/told/done" ] || { $py -m hwsi.training.nano.refresh "$asked/job" "$run/align" "$asked/told" && touch "$asked/told/done"; }
[ -f "$asked/expert.jsonl" ] || $hwsi train expert --model "$run/instruct" --cohort "$asked" --features "$asked/told" \
    --out "$asked/expert.jsonl" --slides "${EXPERT_SLIDES:-200}" --questions 1
$hwsi train prefer --config nano-prefer --start "$run/instruct" --out "$run/prefer" \
    --set "data.features=$asked/told" --set "data.preferences=$asked/expert.jsonl" --set epochs=3 --set "$precision"

# what stage 4 changed, on patients that no stage learned from
for stage in instruct prefer; do
    $hwsi bench reports --model "$run/$stage" --cohort "$run/cohort" --features "$told"
done

# into the package
rm -rf "$weights/model"
$py -m hwsi.training.nano.pack "$run/prefer" "$weights/model"
cp "$run/patch/patch.safetensors" "$run/cell/cell.safetensors" "$run/align/encoders/"{region,slide,text}.safetensors "$weights/"

# what it is worth on slides that it never saw
$hwsi bench run phantom --model nano --slides 40 --out "$run/bench"
$hwsi bench run phantom2 --model nano --slides 120 --out "$run/bench2"
