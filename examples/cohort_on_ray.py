"""A folder of slides on a Ray cluster; what breaks is a row of the table, what was killed goes on with the same call.

    python examples/cohort_on_ray.py [SLIDES]

- The cluster is that of ``RAY_ADDRESS``; without one it is this machine. ``pip install 'hwsi[ray]'`` on all nodes.
- On a cluster without a shared file system, slides are URLs and ``Job(store="s3://...")`` takes the finished files.
- ``hwsi encode SLIDES --out job --engine ray`` does the same.
"""

import sys
from pathlib import Path

from hwsi.encoding.cohort.job import Job
from hwsi.encoding.cohort.manifest import find_slides
from hwsi.encoding.cohort.on_ray import RayCluster, nodes
from hwsi.encoding.cohort.runner import run_cohort
from hwsi.encoding.cohort.state import StateTable
from hwsi.encoding.cohort.summary import write_summary
from hwsi.phantom.cohort import write_cohort
from hwsi.presets import load_preset


def main(slides: str = "slides") -> None:
    """Encode the folder into ``job`` and print a line for each slide."""
    if not Path(slides).exists():
        write_cohort(slides, 2, seed=1, split="demo", sides_um=(768, 768))
    job = Job(Path("job"), load_preset("nano"))
    workers = nodes()  # one for each machine; with GPUs: one for each of them
    with StateTable(job.out, create=True) as table:
        table.enrol(job, find_slides([slides], skip=job.out).entries)
        run_cohort(table, job, workers=workers, engine=RayCluster(job, None, workers, gpu=False))
        for row in table.rows():
            print(f"{row['name']}: {row['state']} {row['reason'] or row['features']}")
        print(f"summary: {write_summary(table)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
