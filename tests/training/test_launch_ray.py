"""The same training function on two Ray workers. Slow: Ray and Ray Train take most of a minute to start."""

import pytest

from infra.ray_cluster import connect, disconnect
from tests.training import jobs
from tests.training.test_launch import CONFIG, Heard
from training import launch
from training.launch import Place, TrainingFailed


@pytest.fixture(scope="module")
def ray_cluster():
    yield connect(num_cpus=2)
    disconnect()


@pytest.mark.slow
def test_two_ray_workers_one_of_them_killed_learn_what_one_process_learns(tmp_path, ray_cluster):
    heard = Heard()
    results = {}
    for workers, kill_at in ((1, None), (2, 8)):
        (tmp_path / str(workers)).mkdir()
        with launch.at(Place(threads=1, workers=workers)):
            folder = str(tmp_path / str(workers))
            results[workers] = launch.run(jobs.train_tiny, folder, CONFIG, kill_at, report=heard)
    assert (tmp_path / "2" / "killed").exists()
    resumed = [
        f"training goes on from the checkpoint at step {step}" for step in (3, 6)
    ]  # 6 may not have been written yet
    assert any(note in heard.events for note in resumed)
    assert results[2] == pytest.approx(results[1], abs=1e-4)


@pytest.mark.slow
def test_an_error_on_a_ray_worker_is_one_error_here(tmp_path, ray_cluster):
    with launch.at(Place(workers=2)), pytest.raises(TrainingFailed, match="width 3: it must be even; use 4"):
        launch.run(jobs.refuse)
