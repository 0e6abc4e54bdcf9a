import subprocess
import sys

import pytest

from hwsi import encoders
from hwsi.encoders import base
from hwsi.encoders.registry import EncoderSpec, register
from hwsi.errors import HwsiError, Reason

PROTOCOL = {
    "patch": base.PatchEncoder,
    "region": base.RegionEncoder,
    "slide": base.SlideEncoder,
    "cell": base.CellEncoder,
    "text": base.TextEncoder,
}


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys, hwsi.encoders as e; e.available(); e.get('patch-nano');"
        "assert not {'torch', 'cv2', 'skimage', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_scale_has_an_encoder_that_fits_its_protocol() -> None:
    embedded = [s for s in encoders.available() if s.weights]
    assert {s.scale for s in embedded} == set(PROTOCOL)
    for spec in embedded:
        encoder = spec.build(weights=None)
        assert isinstance(encoder, PROTOCOL[spec.scale])
        assert encoder.spec is spec
        assert not encoder.training
    assert {s.scale for s in encoders.available("cell")} == {"cell"}


def test_random_weights_are_the_same_each_time() -> None:
    import torch

    torch.manual_seed(1)
    a = encoders.get("region-nano").build(weights=None).state_dict()
    b = encoders.get("region-nano").build(weights=None).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_unknown_names_near_matches() -> None:
    assert encoders.get("UNI2-h") is encoders.get("uni_v2")
    with pytest.raises(HwsiError, match="patch-nano") as e:
        encoders.get("Patch_nano")
    assert e.value.reason is Reason.ENCODER_UNKNOWN
    with pytest.raises(HwsiError) as e:
        encoders.get("zzzzzz")
    assert "slide-nano" in e.value.todo


def test_an_id_means_one_thing() -> None:
    spec = encoders.get("patch-nano")
    register(spec)
    values = {f: getattr(spec, f) for f in spec.__dataclass_fields__}
    with pytest.raises(ValueError, match="already registered"):
        register(EncoderSpec(**(values | {"dim": 7})))
    with pytest.raises(ValueError, match="scale"):
        register(EncoderSpec(**(values | {"id": "new", "scale": "organ"})))


def test_weights_elsewhere_are_asked_for() -> None:
    values = {f: getattr(encoders.get("patch-nano"), f) for f in EncoderSpec.__dataclass_fields__}
    spec = EncoderSpec(**(values | {"id": "foreign", "weights": None, "hub": "somebody/foreign"}))
    with pytest.raises(HwsiError) as e:
        spec.build()
    assert e.value.reason is Reason.WEIGHTS_MISSING
