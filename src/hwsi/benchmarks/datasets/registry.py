"""Which datasets there are, which of them are here, and which one a file belongs to.

- A dataset lies in the folder of its name under a root (an option, or ``HWSI_DATA``): ``ROOT/panda/train.csv``.
- A file anywhere is recognised by its fields, not by its name, where two datasets have not the same fields.
- An extension adds one by :func:`register`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hwsi import extensions
from hwsi.benchmarks.datasets import own, pathtext, phantom, reports, slidebench, wsi_bench, wsi_vqa
from hwsi.benchmarks.datasets.classification import BRACS, EBRAINS, IMP_CRC, PANDA, TCGA_OT, UBC_OCEAN
from hwsi.benchmarks.datasets.record import Loaded
from hwsi.errors import HwsiError, Reason
from hwsi.training.data.formats import RawRow, raw_rows

ROOT_VARIABLE = "HWSI_DATA"
_RAW_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Attributes:
        name: in commands, and of its folder (``folder``, where two lie in one).
        task: what is asked. size: of what the loader reads. licence: as its owners state it. how: to get it.
        files: patterns in its folder. fields: that a file of it has, and no other dataset's has all of.
        load: its files to records.
        one: whether its files are versions, of which only one is meant.
    """

    name: str
    task: str
    size: str
    licence: str
    how: str
    files: tuple[str, ...]
    load: Callable[[Sequence[Path]], Loaded]
    fields: tuple[str, ...] = ()
    folder: str = ""
    one: bool = False


_HUB = "huggingface.co/datasets/"
_SLIDECHAT = f"{_HUB}General-Medical-AI/SlideChat"
_TABLE = "own table slide_id,label,split or as published"

DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "phantom", "closed VQA, report, caption", "any, made on the spot", "Apache-2.0",
        "hwsi phantom cohort (hwsi bench run phantom makes its own)", (phantom.MANIFEST,), phantom.load,
    ),
    Dataset(
        "phantom2", "closed VQA, pairs, premises, shifts", "any, made on the spot", "Apache-2.0",
        "hwsi bench run phantom2 makes its own", (phantom.MANIFEST,), phantom.load,
    ),
    Dataset(
        "wsi-bench", "VQA, report", "4,173 items, 1,035 slides (16 test files)", "Apache-2.0 (repository)",
        "github.com/XinhengLyu/WSI-LLaVA, dataset/*_test.json", ("*_test.json",), wsi_bench.load, wsi_bench.FIELDS,
    ),
    Dataset(
        "wsi-bench-open", "open VQA, report", "2,838 items, 527 slides", "Apache-2.0 (repository)",
        f"{_HUB}Lucas-yuc/WSI-Bench, WSI-Bench-open-question.jsonl",
        ("WSI-Bench-test.jsonl", "WSI-Bench-open-question.jsonl"),
        wsi_bench.load_open, wsi_bench.OPEN_FIELDS, "wsi-bench", one=True,
    ),
    Dataset(
        "wsi-vqa", "closed and open VQA", "8,672 items (735 of 86 patients in test)", "none stated",
        "github.com/cpystan/WSI-VQA, dataset/WSI_captions", ("WsiVQA_*.json",), wsi_vqa.load,
        ("Id", "Question", "Answer"),
    ),
    Dataset(
        "slidebench-tcga", "closed VQA", "1,494 or 3,176 items (7,827 never released)", "none stated", _SLIDECHAT,
        ("*VQA*TCGA*.csv",), slidebench.load_tcga, slidebench.TCGA_FIELDS, one=True,
    ),
    Dataset(
        "slidebench-bcnb", "closed VQA", "7,247 or 7,274 items, 1,058 slides", "none stated", _SLIDECHAT,
        ("*VQA*BCNB*.csv",), slidebench.load_bcnb, slidebench.BCNB_FIELDS, one=True,
    ),
    Dataset(
        "slidebench-caption", "caption", "734 or 1,547 slides", "none stated", _SLIDECHAT, ("*Caption*.csv",),
        slidebench.load_caption, one=True,
    ),
    Dataset(
        "histgen", "report", "7,753 slides (7:1:2)", "Apache-2.0", f"{_HUB}david4real/HistGen",
        ("annotation*.json",), reports.load_histgen, ("train", "val", "test"), one=True,
    ),
    Dataset(
        "pathtext", "report, caption", "about 9,000 cases (1,041 breast)", "MIT (repository)",
        "github.com/cpystan/Wsi-Caption, its drive", (pathtext.PATTERN, pathtext.SPLITS), pathtext.load,
    ),
    Dataset(
        "tcga-reports", "report, cross-modal retrieval", "9,523 reports", "MIT (repository)",
        "github.com/tatonetti-lab/tcga-path-reports, TCGA_Reports.csv.zip, unpacked", ("TCGA_Reports.csv",),
        reports.load_tcga_reports, reports.REPORT_FIELDS,
    ),
    Dataset(
        "bracs", "classification, 7", "547 slides", "CC0 1.0", "bracs.icar.cnr.it; BRACS.xlsx saved as CSV",
        ("*.csv",), BRACS.load, ("WSI Filename", "WSI label"),
    ),
    Dataset(
        "ubc-ocean", "classification, 5", "538 images, 25 of them microarrays", "Kaggle competition rules",
        "kaggle.com/competitions/UBC-OCEAN, train.csv", ("*.csv",), UBC_OCEAN.load, ("image_id", "label", "is_tma"),
    ),
    Dataset(
        "tcga-ot", "classification, 46", "11,186 slides (1,348 in test)", "none stated",
        "github.com/mahmoodlab/TITAN, datasets/", ("*.csv",), TCGA_OT.load, ("slide_id", "OncoTreeCode"),
    ),
    Dataset(
        "ebrains", "classification, 30", "2,319 of 3,115 slides", "restricted, by agreement",
        "search.kg.ebrains.eu, Digital Brain Tumour Atlas, annotation.csv", ("*.csv",), EBRAINS.load,
        ("uuid", "pat_id", "diagnosis"),
    ),
    Dataset(
        "panda", "classification, 6", "10,616 slides", "CC BY-SA-NC 4.0",
        "kaggle.com/c/prostate-cancer-grade-assessment, train.csv", ("*.csv",), PANDA.load,
        ("image_id", "isup_grade"),
    ),
    Dataset(
        "imp-crc", "classification, 3", "5,333 slides", "on request",
        f"rdm.inesctec.pt/dataset/nis-2023-008; {_TABLE}", ("*.csv",), IMP_CRC.load,
    ),
)  # fmt: skip

# what a user's own files are; they are in no list
_OWN_CONVERSATIONS = Dataset(own.CONVERSATIONS, "", "", "", "", (), own.load_conversations, ("turns",))
_OWN = (
    Dataset(own.RECORDS, "", "", "", "", (), own.load_records, ("slide_id", "source", "version_sha", "answer")),
    _OWN_CONVERSATIONS,
    replace(_OWN_CONVERSATIONS, fields=("messages",)),
    Dataset(own.REPORTS, "", "", "", "", (), own.load_reports, ("slide", "report")),
)


_ADDED: dict[str, Dataset] = {}


def register(dataset: Dataset) -> Dataset:
    """Add a dataset. One of the same name, and not the same, is a bug of the caller: ValueError."""
    if dataset.name in {d.name for d in DATASETS} or _ADDED.setdefault(dataset.name, dataset) != dataset:
        raise ValueError(f"there is a dataset {dataset.name} already")
    return dataset


def available() -> tuple[Dataset, ...]:
    """All datasets, ours first."""
    extensions.load()
    return (*DATASETS, *_ADDED.values())


def get(name: str) -> Dataset:
    """The dataset of this name. Raises: OPTION_INVALID."""
    found = next((d for d in available() if d.name == name), None)
    if found is None:
        raise HwsiError(Reason.OPTION_INVALID, f"no dataset '{name}'", "choose one of those of hwsi bench list")
    return found


def data_root(root: Path | None = None) -> Path | None:
    """The folder of all datasets: as given, or ``HWSI_DATA``; None without."""
    told = os.environ.get(ROOT_VARIABLE, "")
    return root or (Path(told) if told else None)


def files_of(dataset: Dataset, root: Path | None) -> tuple[Path, ...]:
    """Files of a dataset that are here, by name; empty without."""
    if root is None:
        return ()
    folder = root / (dataset.folder or dataset.name)
    return tuple(sorted({path for pattern in dataset.files for path in folder.glob(pattern) if path.is_file()}))


def listing(root: Path | None = None) -> list[dict[str, Any]]:
    """All datasets as plain rows: name, task, size, licence, how, here (its files under the root)."""
    root = data_root(root)
    return [
        {
            "name": d.name, "task": d.task, "size": d.size, "licence": d.licence, "how": d.how,
            "here": [str(path) for path in files_of(d, root)],
        }
        for d in available()
    ]  # fmt: skip


def recognise(path: Path) -> Dataset:
    """The dataset that a file belongs to, by the fields of its first whole row.

    Raises:
        HwsiError: DATA_MISSING, DATA_INVALID (its fields are those of no dataset, or it has another ending).
    """
    if path.name == phantom.MANIFEST:
        return get("phantom")
    if path.suffix.lower() not in _RAW_ENDINGS and path.is_file():
        what = f"{path} has the ending '{path.suffix}', which no dataset has"
        raise HwsiError(Reason.DATA_INVALID, what, "give CSV, JSON or JSON Lines")
    known = (*available(), *_OWN)
    names = {name for d in known for name in d.fields}
    fields = set(next((row.fields for row in raw_rows(path, names) if isinstance(row, RawRow)), {}))
    if "conversations" in fields and wsi_bench.task_of(path) not in wsi_bench.AREAS:
        return _OWN_CONVERSATIONS
    fits = [d for d in known if d.fields and set(d.fields) <= fields]
    if fits:
        return max(fits, key=lambda d: len(d.fields))
    if path.suffix.lower() == ".json" and _is_histgen(path):
        return get("histgen")
    if path.suffix.lower() == ".csv" and "caption" in path.stem.lower():
        return get("slidebench-caption")  # whose columns have no names that can be relied on
    what = f"{path} is of no dataset that is known: its first row has {', '.join(sorted(fields)[:8]) or 'no fields'}"
    raise HwsiError(Reason.DATA_INVALID, what, "give the file as published, or name its dataset: NAME=FILE")


def _is_histgen(path: Path) -> bool:
    """One object over several lines, which no reader of rows takes for one."""
    with path.open("rb") as file:
        return b'"train"' in file.read(4096)


def open_data(what: str, root: Path | None = None) -> Loaded:
    """A dataset by its name, by ``NAME=FILE``, or by a file that is recognised.

    Raises:
        HwsiError: DATA_MISSING (nothing of it is here), DATA_INVALID, OPTION_INVALID.
    """
    name, mark, told = what.partition("=")
    if mark and not Path(what).exists():
        return get(name).load((_file(Path(told)),))
    path = Path(what)
    if any(d.name == what for d in available()) and not path.is_file():
        return _of_root(get(what), data_root(root))
    if path.is_dir() and (path / phantom.MANIFEST).is_file():
        path = path / phantom.MANIFEST
    return recognise(_file(path)).load((path,))


def _of_root(dataset: Dataset, root: Path | None) -> Loaded:
    found = files_of(dataset, root)
    if not found:
        where = f"in {root / (dataset.folder or dataset.name)}" if root else f"since {ROOT_VARIABLE} is not set"
        raise HwsiError(Reason.DATA_MISSING, f"{dataset.name} is not here, {where}", f"get it: {dataset.how}")
    if dataset.one and len(found) > 1:
        what = f"{len(found)} versions of {dataset.name} are here: {', '.join(path.name for path in found)}"
        raise HwsiError(Reason.DATA_INVALID, what, "give one of these files instead of the name")
    return dataset.load(found)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise HwsiError(Reason.DATA_MISSING, f"there is no file {path}", "check the path")
    return path
