#!/usr/bin/env bash
# The embedded model, from nothing to weights in the package, on one page. No GPU, no network, no other data.
# Hours on 2 cores; every step goes on where it stopped. `recipes/nano.sh RUN [SLIDES]`; smaller numbers for a try.
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-runs/nano}
slides=${2:-800}
py=.venv/bin/python
weights=src/hwsi/weights/nano
# mixed precision makes steps 2 and 5 up to twice as fast on CPUs that multiply bf16
bf16=$(grep -qE "avx512_bf16|amx_bf16" /proc/cpuinfo 2>/dev/null && echo --bf16 || true)

# 0 slides: drawn tissue with its truth; the seed decides everything
.venv/bin/hwsi phantom cohort "$run/cohort" --slides "$slides" --seed 1 --split train

# 1, 2 patches with their truth; patch encoder and text tower
[ -f "$run/pixels/done.json" ] || $py -m hwsi.training.nano.pixels "$run/cohort" "$run/pixels" --per-slide 32
$py -m hwsi.training.nano.patch "$run/pixels" "$run/patch" --steps "${PATCH_STEPS:-6000}" $bf16

# 3 cells: what our own detection finds, named by the truth
$py -m hwsi.training.nano.cell "$run/cohort" "$run/cell" --steps "${CELL_STEPS:-2500}"

# every pixel is read once more, with the trained patch and cell encoders
$py -m hwsi.training.nano.features "$run/cohort" "$run/patch" "$run/cell" "$run/features"

# 4 region, slide and text encoders over patch vectors
$py -m hwsi.training.nano.context "$run/cohort" "$run/features" "$run/patch" "$run/context" --steps "${CONTEXT_STEPS:-1200}"

# 5 CCAF, projectors and language model
$py -m hwsi.training.nano.language "$run/cohort" "$run/features" "$run/context" "$run/language" --steps "${LANGUAGE_STEPS:-5000}" $bf16

# into the package
rm -rf "$weights/model" && cp -r "$run/language/model" "$weights/model"
cp "$run/patch/patch.safetensors" "$run/cell/cell.safetensors" "$run/context/"{region,slide,text}.safetensors "$weights/"

# what it is worth on slides that it never saw
.venv/bin/hwsi bench run phantom --model nano --slides 40 --out "$run/bench"
