"""From the folder of a run alone: the measures it ended with, and translations."""

import json
import math
import shutil

import pytest

from tasks.translation.data.vocabulary import BytePairs
from tests.commands import run_in_process, run_in_subprocess

PAIRS = ["twenty-one", "seven thousand and three"]


@pytest.fixture
def evaluate(smoke_run):
    """`eval.py` on the run; gives standard output and error."""

    def command(*flags, stdin=b""):
        done = run_in_process("eval.py", f"--workdir={smoke_run}", *flags, stdin=stdin)
        assert done.code == 0, done.errors
        return done.output, done.errors

    return command


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def of_split(measures, split):
    return {name: x for name, x in measures.items() if name.startswith(f"{split}/")}


def test_json_is_one_line_that_repeats_the_summary(smoke_run):
    """In its own process, as another that printed would break whoever reads the line."""
    done = run_in_subprocess("eval.py", f"--workdir={smoke_run}", "--json")
    assert done.code == 0, done.errors
    assert done.errors == "note: Parameters are the mean of checkpoints 2, 4.\n"
    assert done.output.endswith("}\n") and done.output.count("\n") == 1
    assert json.loads(done.output) == {
        "config": "transformer_nmt",
        "checkpoint": "average",
        "step": 4,
        "changed": {},
        "metrics": of_split(summary(smoke_run)["metrics"], "test"),
        "paper": {},
    }


def test_the_table_shows_another_split(smoke_run, evaluate):
    output, _ = evaluate("--split=test_long")
    expected = of_split(summary(smoke_run)["metrics"], "test_long")
    rows = dict(line.split() for line in output.splitlines() if line.startswith("test_long/"))
    assert rows == {name: f"{value:.4g}" for name, value in expected.items()}
    assert "average, step 4" in output and "decode.width=" not in output


def test_sentences_over_the_limit_are_counted(smoke_run, evaluate):
    """Those of more than 24 pieces, the end of the sentence among them."""
    vocabulary = BytePairs.load(smoke_run / "vocabulary.model")
    assert summary(smoke_run)["metrics"]["test_long/truncated"] > 0
    long = "one million " * 20
    assert len(vocabulary.encode([long])[0]) > 23
    output, errors = evaluate("--translate=-", stdin=f"one\n{long}\ntwo\n{long}\n".encode())
    assert output.count("\n") == 4
    assert errors.endswith(
        "note: of 4 sentences 2 were too long and were cut to the longest that the model takes\n"
    )


def test_a_sentence_a_file_and_standard_input_are_translated_alike(evaluate, tmp_path):
    file = tmp_path / "numbers.en"
    file.write_text("\n".join([PAIRS[0], "", *PAIRS]) + "\n")
    whole, errors = evaluate(f"--translate={file}")
    one, empty, again, other = whole.removesuffix("\n").split("\n")
    assert one == again != other and one and other and empty == ""
    assert "cut" not in errors
    assert evaluate("--translate=-", stdin=file.read_bytes())[0] == whole
    assert evaluate(f"--translate={PAIRS[1]}")[0] == f"{other}\n"


def test_translating_takes_no_corpus(evaluate):
    assert evaluate("--translate=", "--config.data.corpus=nowhere")[0] == "\n"


def test_the_beam_changes_what_is_found_and_nothing_else(smoke_run, evaluate):
    expected = of_split(summary(smoke_run)["metrics"], "test")
    before = (smoke_run / "config.json").read_bytes()
    result = json.loads(evaluate("--json", "--beam=1", "--length_penalty=0")[0])
    greedy = result["metrics"]
    assert {name for name in expected if greedy[name] != expected[name]} == {"test/chrf"}
    assert result["changed"] == {
        "decode.width": 1,
        "decode.dev_width": 1,
        "decode.length_penalty": 0.0,
    }
    assert (smoke_run / "config.json").read_bytes() == before


def test_best_and_latest_are_what_the_record_says(smoke_run, evaluate):
    records = [json.loads(line) for line in (smoke_run / "metrics.jsonl").read_text().splitlines()]
    (dev,) = (line for line in records if "dev/chrf" in line)
    for which in ("best", "latest"):
        found = json.loads(evaluate("--json", "--split=dev", f"--checkpoint={which}")[0])
        assert found["checkpoint"] == which and found["step"] == dev["step"]
        assert found["metrics"] == of_split(dev, "dev")


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_note(smoke_run, tmp_path):
    copy = shutil.copytree(smoke_run, tmp_path / "copy")
    (data,) = (path for path in (copy / "checkpoints/4/state").glob("d/*"))
    data.write_bytes(b"\0" * data.stat().st_size)
    (copy / "checkpoints/6.orbax-checkpoint-tmp").mkdir()
    done = run_in_process("eval.py", f"--workdir={copy}", "--checkpoint=latest", "--translate=")
    assert (done.code, done.output) == (0, "\n")
    assert done.errors.startswith("note: Checkpoint 4 is damaged (")
    assert done.errors.endswith("), 6 is only half written; using 2 instead.\n")


@pytest.mark.parametrize("file", ["manifest.ocdbt", "array_metadatas/process_0"])
def test_of_what_is_damaged_one_sentence_is_said_and_no_more(file, smoke_run, tmp_path):
    """The storage's own threads and coroutines would go on about it."""
    copy = shutil.copytree(smoke_run, tmp_path / "copy")
    for path in copy.glob(f"checkpoints/*/state/{file}"):
        path.write_bytes(path.read_bytes()[:-10])
    done = run_in_subprocess("eval.py", f"--workdir={copy}", "--checkpoint=latest")
    assert (done.code, done.output, done.errors.count("\n")) == (2, "", 1)
    assert done.errors.startswith("error: No checkpoint in ")


SQUARE = [(2, 1), (5, 1), (5, 4), (2, 4), (3, 2), (4, 3)]


def instance(cities):
    lines = [f"{n + 1} {x} {y}" for n, (x, y) in enumerate(cities)]
    head = ["NAME: square", "TYPE: TSP", f"DIMENSION: {len(cities)}", "EDGE_WEIGHT_TYPE: EUC_2D"]
    return "\n".join([*head, "NODE_COORD_SECTION", *lines, "EOF"])


def test_an_instance_is_answered_beside_it(tmp_path):
    """By a tour of the length that is said, and by the same one if its unit is another."""
    workdir = f"--workdir={tmp_path / 'run'}"
    done = run_in_process("train.py", "--config=configs/ptrnet_tsp.py:smoke", workdir)
    assert done.code == 0, done.errors
    tours = []
    for name, scale in (("metres", 1), ("feet", 10)):
        cities = [(scale * x + 7, scale * y - 3) for x, y in SQUARE]
        (tmp_path / f"{name}.tsp").write_text(instance(cities))
        done = run_in_process("eval.py", workdir, f"--instance={tmp_path / name}.tsp")
        assert done.code == 0, done.errors
        tour = (tmp_path / f"{name}.tour").read_text().split("TOUR_SECTION")[1].split()
        tours.append([int(city) - 1 for city in tour[: tour.index("-1")]])
        ends = zip(tours[-1], tours[-1][1:] + tours[-1][:1], strict=True)
        length = sum(round(math.dist(cities[a], cities[b])) for a, b in ends)
        assert f"length {length}." in done.output
    assert sorted(tours[0]) == [*range(len(SQUARE))] and tours[0] == tours[1]

    assert (
        "The task 'pointing.tsp' has no beam"
        in run_in_process("eval.py", workdir, "--length_penalty=1").errors
    )
    assert run_in_process("eval.py", workdir, "--beam=2", "--json").code == 0
    there = tmp_path / "metres.tour"
    done = run_in_process("eval.py", workdir, f"--instance={there}")
    assert done.code == 2 and f"The answer would go to {there}, which cannot be" in done.errors
    done = run_in_process(
        "eval.py", workdir, f"--instance={tmp_path / 'metres.tsp'}", "--config.model.width=9"
    )
    assert done.code == 2 and "weights cannot be read with model.width=9: " in done.errors


def test_a_translator_solves_no_instance(smoke_run):
    done = run_in_process("eval.py", f"--workdir={smoke_run}", f"--instance={__file__}")
    assert done.code == 2 and "The task 'translation' solves no instances." in done.errors
