"""Your slides and what was written about them: a model that has read both.

    python examples/train_on_your_reports.py [SLIDES REPORTS]

- ``SLIDES`` is a folder, ``REPORTS`` a CSV with the columns ``slide,patient,report``. Without them four slides are
  drawn.
- Each step is a command, printed as you would type it. Here the training stops after ten steps, which shows that all
  of it works; leave ``steps=`` out for the preset's own number.
- Of more patients, a tenth is held out by their names, and the figures at the end are theirs.
"""

import csv
import shlex
import sys
from importlib.resources import files
from pathlib import Path

from hwsi.cli.app import main as hwsi
from hwsi.model import load
from hwsi.phantom.cohort import read_manifest, write_cohort
from hwsi.phantom.truth import fill_labels, load_truth


def run(command: str) -> None:
    """One command; the example ends where it fails."""
    print(f"\n$ hwsi {command}", flush=True)
    if status := hwsi(shlex.split(command)):
        sys.exit(status)


def draw(slides: Path, reports: Path) -> None:
    """Four slides of four patients, and a table of their reports."""
    write_cohort(slides, 4, seed=1, split="train", sides_um=(768, 768))
    with reports.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("slide", "patient", "report"))
        for row in read_manifest(slides):
            report = load_truth(slides / row["slide"])["report"]
            table.writerow((Path(row["slide"]).stem, row["patient"], fill_labels(report, lambda *place: "A region")))


def main(slides: str = "slides", reports: str = "reports.csv") -> None:
    """Encode, look before the training, train, and ask the model that came of it."""
    if not Path(slides).exists():
        draw(Path(slides), Path(reports))
    model, processor = load("nano")  # any model's folder will do: hwsi.model.from_language_model makes new ones
    model.save_pretrained("start")
    processor.save_pretrained("start")
    settings = f"--set former=external --set data.features=job --set data.reports={reports} --set steps=10"
    run(f"encode {slides} --out job")
    run(f"train project --config nano-project --start start {settings} --out run --dry-run")
    run(f"train project --config nano-project --start start {settings} --out run")
    preset = (files("hwsi.presets") / "nano.yaml").read_text("utf-8")
    Path("ours.yaml").write_text(f"{preset}\nlanguage_model: run/model\n", encoding="utf-8")
    first = min(p for p in Path(slides).iterdir() if p.suffix in (".svs", ".tiff"))
    run(f"caption {first} --out job --preset ours.yaml")


if __name__ == "__main__":
    main(*sys.argv[1:])
