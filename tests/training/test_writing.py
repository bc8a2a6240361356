"""Files of a run can be read back, or the run ends with an error of one sentence."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import subprocess
import warnings

import numpy as np
import pytest

from tests import toy
from tests.training.runs import start_training, toy_config
from training import metric_writer, run
from training.errors import UserError
from training.files import atomic_write, write_array
from training.loop import fit

# Run directories.


@pytest.mark.parametrize("name", ["exp[2]", "[", "a*", "a?", "a\\b", "gs:/x", "a\udcff"])
def test_path_that_loses_checkpoints_is_rejected_before_the_directory_is_created(tmp_path, name):
    workdir = f"{tmp_path}/{name}/run"
    with (
        pytest.raises(UserError, match=r"Checkpoints cannot be stored in .*: use a --workdir"),
        run.lock_workdir(workdir),
    ):
        pass
    with pytest.raises(UserError, match="Checkpoints cannot be stored in"):
        run.open_workdir(toy_config(), workdir)
    assert list(tmp_path.iterdir()) == []


def test_path_is_rejected_if_a_symbolic_link_leads_to_it(tmp_path):
    (tmp_path / "exp[2]").mkdir()
    (tmp_path / "link").symlink_to("exp[2]")
    with pytest.raises(UserError, match="because its path contains '\\['"):
        run.open_workdir(toy_config(), str(tmp_path / "link"))


def test_config_without_a_number_of_steps_is_a_different_config(tmp_path):
    run.open_workdir(toy_config(), str(tmp_path))
    (tmp_path / "metrics.jsonl").touch()
    written = json.loads((tmp_path / "config.json").read_text())
    for steps in (None, "40"):
        written["train"].pop("steps", None)
        written["train"] |= {"steps": steps} if steps else {}
        (tmp_path / "config.json").write_text(json.dumps(written))
        with pytest.raises(UserError, match="train.steps was '(absent|40)' and is now 40"):
            run.open_workdir(toy_config(), str(tmp_path))


def test_run_does_not_resume_on_other_data(tmp_path):
    data = {"train": "300 pairs (digest 1f)", "dev": "9 pairs (digest 2e)"}
    run.check_same_data({}, str(tmp_path))  # generated data
    assert not (tmp_path / run.DATA).exists()
    for _ in range(2):
        run.check_same_data(data, str(tmp_path))
    for other in (data | {"dev": "9 pairs (digest 3d)"}, {"train": data["train"]}):
        with pytest.raises(
            UserError, match=r"dev was 9 pairs \(digest 2e\) and is now .*; restore"
        ):
            run.check_same_data(other, str(tmp_path))
    assert json.loads((tmp_path / run.DATA).read_text()) == data


class ChangedData(toy.Toy):
    """Toy task that reads data other than the data in `data.json`."""

    def data_fingerprint(self):
        return {"train": "300 pairs (digest 1f)"}


def test_training_does_not_resume_on_other_data(tmp_path):
    config = toy_config()
    (tmp_path / run.DATA).write_text('{"train": "400 pairs (digest 2e)"}')
    with pytest.raises(UserError, match="train was 400 pairs .* and is now 300 pairs"):
        fit(ChangedData(config), config, str(tmp_path))
    assert not (tmp_path / metric_writer.FILENAME).exists()


def test_compilation_cache_on_a_full_disk_is_not_reported_for_each_program():
    message = "Error writing persistent compilation cache entry for 'jit_f': OSError: [Errno 28]"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(message, stacklevel=1)
        run.enable_compilation_cache()
        warnings.warn(message, stacklevel=1)
        warnings.warn("another message", stacklevel=1)
    assert [str(warning.message) for warning in caught] == [message, "another message"]


# Records.


def test_error_of_writing_an_array_has_its_number(tmp_path):
    """A limit on the size of files fails in the same way as a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context((tmp_path / "x.npy").open("wb"))
        stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limit[1]))
        with pytest.raises(OSError, match="File too large") as error:
            write_array(file, np.zeros(100_000))
    assert error.value.errno == errno.EFBIG


@pytest.fixture
def small_disk(tmp_path):
    """File system of 8 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 8, 24, 100, 700, 1500, 2200, 3000])
def test_full_disk_is_one_sentence_and_the_run_resumes_with_more_space(small_disk, free):
    """The free space in KiB suffices for a part of the files; a checkpoint has about 700 KiB."""
    filler, workdir = small_disk / "filler", small_disk / "run"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    os.truncate(filler, filler.stat().st_size - 1024 * free)
    output, errors = start_training(workdir, "--config.model.width=10000").communicate()
    assert "Finished" not in output
    assert re.fullmatch(r"error: Cannot write [^\n]*No space left on device[^\n]*\n", errors)
    filler.unlink()
    output, errors = start_training(workdir, "--config.model.width=10000").communicate()
    assert "Finished" in output and errors == ""


def test_array_is_written_in_the_format_of_numpy(tmp_path):
    for array in (np.arange(6, dtype=np.uint16).reshape(2, 3), np.zeros(3_000_000)):
        with atomic_write(tmp_path / "x.npy") as file:
            write_array(file, array)
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy", mmap_mode="r"), array)


def test_file_behind_a_symbolic_link_is_replaced_and_the_link_stays(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write(b"after")
    assert link.is_symlink() and target.read_text() == "after"
