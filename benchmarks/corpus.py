"""Memory and time of a corpus of five million sentence pairs, from compressed text to training.

Generates text in 40 files, three quarters of them compressed: sentences of 5 to 40 words with Zipf
frequencies. A first process prepares it phase by phase as training does, a second one repeats this
with the caches of the first, as a resumed run does, and a third one trains a tiny Transformer on
packed rows for 100 steps. The memory of each process includes memory-mapped files; the limit is
8 GiB. The files, about 3 GB, are in a temporary directory (`TMPDIR`), which is removed.
"""

import contextlib
import gzip
import lzma
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from backports import zstd
from ml_collections import ConfigDict

from benchmarks.timing import call_in_process
from benchmarks.workloads import Measurement
from configs import transformer_base_wmt14
from training import allocator

SHARDS, WORDS = 20, 100_000
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda text: gzip.compress(text, compresslevel=1),
    ".xz": lambda text: lzma.compress(text, preset=0),
    ".zst": zstd.compress,
}


def write_corpus(directory: Path, pairs: int) -> None:
    """Write the training shards and small dev and test splits."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(1, 12))) for _ in range(WORDS)])
    cumulative = np.cumsum(1 / np.arange(1, WORDS + 1))

    def text(count: int) -> bytes:
        lengths = rng.integers(5, 41, count)
        ids = np.searchsorted(cumulative, rng.uniform(0, cumulative[-1], lengths.sum()))
        sentences = np.split(words[ids], np.cumsum(lengths)[:-1])
        return "".join(f"{' '.join(sentence.tolist())}\n" for sentence in sentences).encode()

    for stem in ("dev", "test"):
        for language in ("en", "de"):
            (directory / f"{stem}.{language}").write_bytes(text(16))
    bounds = np.linspace(0, pairs, SHARDS + 1).astype(int)
    for i, count in enumerate(np.diff(bounds).tolist()):
        suffix = tuple(COMPRESS)[i % len(COMPRESS)]
        for language in ("en", "de"):
            path = directory / f"train{i:02}.{language}{suffix}"
            path.write_bytes(COMPRESS[suffix](text(count)))


def make_config(directory: Path) -> ConfigDict:
    config = transformer_base_wmt14.get_config("smoke")
    patterns = {split: f"{directory}/{split}*.en*" for split in ("train", "dev", "test")}
    config.data = {"corpus": "text_globs", "source": "en", "target": "de"} | patterns
    config.vocabulary.update(size=32_000, sample=2_000_000)
    config.batching.update(tokens=512, buckets=(64, 256))
    config.packing.update(rows=4, source_length=256, target_length=256)
    config.model.dtype = "float32"
    config.train.update(steps=100, log_every=50, eval_every=100, checkpoint_every=50)
    return config


class Timer:
    """Wall-clock and processor time of named phases, in seconds."""

    def __init__(self):
        self.phases: dict[str, tuple[float, float]] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.phases[phase] = time.perf_counter() - wall, time.process_time() - cpu


def prepare(directory: Path) -> Timer:
    """Prepare the corpus for training."""
    import tasks
    from tasks.translation.data.tokenized import tokenize

    timed = Timer()
    workdir = directory / "run"
    task = tasks.build_abstract(make_config(directory), str(workdir))
    with timed("check text"):
        task.corpus  # noqa: B018
    with timed("vocabulary"):
        task.vocabulary  # noqa: B018
    with timed("tokenize"):
        tokenize(task.corpus["train"], task.vocabulary, task.cache)
    with timed("pack"):
        print(task.describe()["packing"])
    return timed


def train(directory: Path) -> Timer:
    """Train for 100 steps."""
    import tasks
    from training.loop import fit

    timed = Timer()
    config, workdir = make_config(directory), str(directory / "run")
    with timed("100 steps, with start and evaluation"):
        fit(tasks.build(config, workdir), config, workdir)
    return timed


def measure(function: Callable[[Path], Timer], directory: Path) -> tuple[dict, float]:
    """Return the times of a function and the peak memory of its process in GiB."""
    allocator.configure_malloc()
    timer = function(directory)
    return timer.phases, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_corpus(pairs: int) -> list[dict[str, Any]]:
    """Measure the time of each phase and the peak memory of each process."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_corpus(directory, pairs)
        time.sleep(3)  # files that were just written are not trusted to be unchanged
        processes = {"first start": prepare, "second start": prepare, "train": train}
        for process, function in processes.items():
            # One process for each, because the peak memory of a process never decreases.
            phases, peak = call_in_process(partial(measure, function, directory))
            rows += [
                {
                    "pairs": pairs,
                    "process": process,
                    "phase": phase,
                    "seconds": wall,
                    "CPU seconds": cpu,
                    "peak GiB of the process": peak,
                }
                for phase, (wall, cpu) in phases.items()
            ]
    return rows


def declare(quick: bool) -> list[Measurement]:
    """Return the measurement."""
    return [Measurement("corpus", partial(measure_corpus, 20_000 if quick else 5_000_000))]
