"""The bill of materials: what the lock says, nothing invented, the same twice."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import distributions
import pytest
import sbom
from attnscope_engine.model.location import FILE_SHA256
from bundled_libraries import Package
from distributions import Held, LicenceError, Text


def held(name: str, version: str, *needs: str, libraries: tuple[str, ...] = ()) -> Held:
    return Held(
        name, version, "MIT", (Text("LICENSE", "You may."),), f"https://pypi.org/project/{name}/{version}/", needs, libraries
    )


NUMPY = held("numpy", "2.4.6", libraries=("numpy.libs/libscipy_openblas64_-1.so", "numpy/_core/umath.so"))
PLOTS = held("pyqtgraph", "0.14.0", "numpy")


def test_that_a_bill_names_each_part_with_its_needs() -> None:
    bill = sbom.document("small", [NUMPY, PLOTS], {})
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["name"]: part for part in bill["components"]}
    assert parts["numpy"]["purl"] == "pkg:pypi/numpy@2.4.6"
    assert parts["numpy"]["description"] == "Carries libscipy_openblas64_"
    assert parts["numpy"]["licenses"] == [{"expression": "MIT"}]
    graph = {row["ref"]: row["dependsOn"] for row in bill["dependencies"]}
    assert graph["pkg:pypi/pyqtgraph@0.14.0"] == ["pkg:pypi/numpy@2.4.6"]
    assert set(graph) == {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert all(ref in graph for needs in graph.values() for ref in needs)


def test_that_the_model_is_in_it_by_its_hash() -> None:
    bill = sbom.document("small", [NUMPY], {})
    weights = next(part for part in bill["components"] if part["type"] == "machine-learning-model")
    assert weights["hashes"] == [{"alg": "SHA-256", "content": FILE_SHA256}]
    assert weights["bom-ref"] in next(row["dependsOn"] for row in bill["dependencies"] if row["ref"].startswith("attnscope"))


def test_that_what_the_system_gave_is_in_it() -> None:
    bill = sbom.document("small", [NUMPY], {}, [Package("zlib", "1:1.2.13.dfsg-1", "words")])
    parts = {part["name"]: part for part in bill["components"]}
    assert parts["zlib"]["purl"] == "pkg:deb/debian/zlib@1%3A1.2.13.dfsg-1?arch=source"
    assert parts["Python"]["version"] == platform.python_version()
    needs = next(row["dependsOn"] for row in bill["dependencies"] if row["ref"].startswith("attnscope"))
    assert {parts["zlib"]["bom-ref"], parts["Python"]["bom-ref"]} <= set(needs)


def test_that_a_hash_is_there_only_when_the_wheel_is(tmp_path: Path) -> None:
    (tmp_path / "numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"wheel")
    (tmp_path / "notes.txt").write_text("not a wheel")
    bill = sbom.document("small", [NUMPY, PLOTS], sbom.wheel_hashes(tmp_path))
    parts = {part["name"]: part for part in bill["components"]}
    assert parts["numpy"]["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"wheel").hexdigest()}]
    assert "hashes" not in parts["pyqtgraph"]


def test_that_the_same_lock_gives_the_same_bytes_and_another_another_number() -> None:
    first, again = (json.dumps(sbom.document("small", [NUMPY, PLOTS], {}), sort_keys=True) for _ in range(2))
    assert first == again
    assert "timestamp" not in first
    other = sbom.document("small", [held("numpy", "2.4.7"), PLOTS], {})
    assert other["serialNumber"] != json.loads(first)["serialNumber"]
    assert other["serialNumber"].startswith("urn:uuid:")


def test_that_what_is_installed_must_be_what_the_lock_says(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("# words\nNumPy==2.4.6\npyqtgraph==0.14.0 # why\n")
    pins = sbom.lock(tmp_path / "constraints.txt")
    sbom.check_lock([NUMPY, PLOTS, held("numpy", "2.4.6+local")], pins)
    with pytest.raises(LicenceError, match=r"numpy 2\.5\.0 is installed, but constraints\.txt says 2\.4\.6"):
        sbom.check_lock([held("numpy", "2.5.0")], pins)
    with pytest.raises(LicenceError, match="does not pin it"):
        sbom.check_lock([held("stray", "1.0")], pins)


def test_that_the_product_s_own_lock_pins_all_of_the_small_bundle() -> None:
    found = distributions.closure(distributions.wanted("small"), distributions.installed())
    sbom.check_lock(found, sbom.lock())
    assert {part["name"] for part in sbom.document("small", found, {})["components"]} >= {"numpy", "PySide6_Essentials"}
    assert all(name in sbom.lock() for name in ("cupy-cuda13x", "cuda-pathfinder", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime"))
