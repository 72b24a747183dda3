"""Core and memory counts follow the cgroup, whatever the host has."""

from pathlib import Path

from infra.hardware import cores, memory_bytes, processor


def test_the_cgroup_quota_bounds_the_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores(tmp_path) == cores(tmp_path / "absent")


def test_a_version_one_cgroup_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores(tmp_path) == 1


def test_the_memory_limit_is_the_lesser_one(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_bytes(tmp_path) == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path) > 1_000_000


def test_number_formats_are_read_from_the_flags(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "vendor_id : AuthenticAMD\nmodel name : AMD X\nflags : fpu avx512_bf16\n\nprocessor : 1\n"
    )
    assert processor(info).bfloat16
    assert processor(info).amd
    info.write_text("vendor_id : GenuineIntel\nmodel name : Y\nflags : fpu avx2\n")
    assert not processor(info).bfloat16
