"""One kind of error for everything that a user can do something about.

- An error has a reason code (stable, for scripts and state tables), one line that says what is wrong,
  and one that says what to do. The command line prints both on one line and exits with status 2.
- A bug is not an ``HwsiError``: it keeps its traceback.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Stable reason codes; documented by their values, never renamed."""

    # slides
    SLIDE_MISSING = "slide_missing"
    SLIDE_EMPTY = "slide_empty"
    SLIDE_UNSUPPORTED = "slide_unsupported"
    SLIDE_CORRUPT = "slide_corrupt"
    MPP_MISSING = "mpp_missing"
    MPP_INVALID = "mpp_invalid"
    TOO_COARSE = "too_coarse"
    TOO_SMALL = "too_small"
    NO_TISSUE = "no_tissue"
    FLUORESCENCE = "fluorescence"
    PEN_MARKED = "pen_marked"
    SLIDE_CHANGED = "slide_changed"
    SLIDE_HUNG = "slide_hung"
    MASK_INVALID = "mask_invalid"
    # questions
    QUESTION_EMPTY = "question_empty"
    QUESTION_TOO_LONG = "question_too_long"
    QUESTION_INVALID = "question_invalid"
    # feature files
    FEATURES_MISSING = "features_missing"
    FEATURES_CORRUPT = "features_corrupt"
    FEATURES_MISMATCH = "features_mismatch"
    # training data
    DATA_MISSING = "data_missing"
    DATA_INVALID = "data_invalid"
    SPLITS_OVERLAP = "splits_overlap"
    NO_NEGATIVES = "no_negatives"
    DIVERGED = "diverged"
    # weights
    WEIGHTS_MISSING = "weights_missing"
    WEIGHTS_MISMATCH = "weights_mismatch"
    STAGE_MISSING = "stage_missing"
    ENCODER_UNKNOWN = "encoder_unknown"
    PRESET_UNKNOWN = "preset_unknown"
    # cohorts
    MANIFEST_INVALID = "manifest_invalid"
    JOB_MISSING = "job_missing"
    JOB_CORRUPT = "job_corrupt"
    WORKER_KILLED = "worker_killed"
    WORKER_CRASHED = "worker_crashed"
    OUT_OF_MEMORY = "out_of_memory"
    INTERNAL_ERROR = "internal_error"
    # benchmarks
    JUDGE_UNREACHABLE = "judge_unreachable"
    # words by vLLM
    VLLM_UNREACHABLE = "vllm_unreachable"
    VLLM_REFUSED = "vllm_refused"
    # the machine and the call
    OUTPUT_UNWRITABLE = "output_unwritable"
    DISK_FULL = "disk_full"
    OPTION_INVALID = "option_invalid"
    EXTRA_MISSING = "extra_missing"


class HwsiError(Exception):
    """Something is wrong with what was handed in, and the user can do something about it.

    Args:
        reason: a stable code.
        what: what is wrong, with the names and numbers of this case; one line.
        todo: what the user can do; one line.
    """

    def __init__(self, reason: Reason, what: str, todo: str = "") -> None:
        self.reason = reason
        self.what = " ".join(what.split())
        self.todo = " ".join(todo.split())
        super().__init__(str(self))

    def __str__(self) -> str:
        return f"[{self.reason.value}] {self.what}" + (f" -> {self.todo}" if self.todo else "")

    def __reduce__(self) -> tuple[type["HwsiError"], tuple[Reason, str, str]]:
        return (type(self), (self.reason, self.what, self.todo))
