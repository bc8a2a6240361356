"""Write the tables of results in README.md and results/README.md from all `summary.json` files.

    python -m results.table

README.md has a row per published headline result (`HEADLINES`), and results/README.md has all runs.
"""

import importlib
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from configs import papers
from results.commands import commands
from training.console import format_duration, format_mean, format_rows

RESULTS = Path(__file__).parent
README = RESULTS.parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
TOLERANCE = 0.01  # relative difference from the published result that counts as a match


class Headline(NamedTuple):
    """Result that a paper reports, and the run that reproduces it.

    Attributes:
        row: name of the row in `configs.papers`.
        task: name of the task and its size.
        metric: name of the metric in `summary.json`.
        folder: subdirectory of `results/`.
        run: name of the run in a sweep, without its seed.
    """

    row: str
    task: str
    metric: str
    folder: str
    run: str = ""


GRAVES, TSP, MISHRA = "graves2014/figure", "vinyals2015/table 2", "mishra2018/table"
HULL = "vinyals2015/table 1/Ptr-Net trained on 5-50"
BITS, RETURN = "test/bits_per_sequence", "test/normalized_discounted"
HEADLINES = (
    Headline(
        "wu2021/table 1/text-only Transformer-Tiny, test2016",
        "Multi30k En-De",
        "test/bleu_tok_lc",
        "transformer_multi30k",
    ),
    Headline(
        "caglayan2017/table 1/text-only GRU with attention, test2016",
        "Multi30k En-De",
        "test/bleu_tok_lc",
        "seq2seq_caglayan_multi30k",
    ),
    Headline(f"{GRAVES} 3/copy, NTM, LSTM", "copy", BITS, "ntm_tasks", "copy-NTM_LSTM"),
    Headline(
        f"{GRAVES} 7/repeat copy, NTM, LSTM",
        "repeat copy",
        BITS,
        "ntm_tasks",
        "repeat_copy-NTM_LSTM",
    ),
    Headline(
        f"{GRAVES} 10/associative recall, NTM, LSTM",
        "associative recall",
        BITS,
        "ntm_tasks",
        "recall-NTM_LSTM",
    ),
    Headline(
        f"{GRAVES} 13/dynamic n-grams, NTM, LSTM",
        "dynamic n-grams",
        "test/excess_bits",
        "ntm_tasks",
        "ngrams-NTM_LSTM",
    ),
    Headline(f"{GRAVES} 18/priority sort, NTM, LSTM", "priority sort", BITS, "ntm_sort"),
    Headline(f"{TSP}/n = 5", "TSP, 5 cities", "test/length_n5", "ptrnet_tsp5"),
    Headline(f"{TSP}/n = 10", "TSP, 10 cities", "test/length_n10", "ptrnet_tsp10"),
    Headline(f"{TSP}/trained on 5-20, n = 20", "TSP, 20 cities", "test/length_n20", "ptrnet_tsp20"),
    Headline(f"{HULL}, n = 5", "convex hull, 5 points", "test/accuracy_n5", "ptrnet_hull"),
    Headline(f"{HULL}, n = 50", "convex hull, 50 points", "test/accuracy_n50", "ptrnet_hull"),
    Headline(
        "vinyals2015/section 4.3/Delaunay, n = 5",
        "Delaunay, 5 points",
        "test/accuracy_n5",
        "ptrnet_delaunay",
    ),
    Headline(
        "bello2016/table 2/TSP20, greedy",
        "TSP, 20 cities, REINFORCE",
        "test/length_n20",
        "ptrnet_tsp20_rl",
    ),
    Headline(
        "kool2019/table 1/AM (greedy), n = 20",
        "TSP, 20 cities, REINFORCE",
        "test/length_n20",
        "attention_model_tsp20",
    ),
    Headline(
        f"{MISHRA} 3/N = 10, K = 5, SNAIL",
        "bandits, 5 arms, 10 pulls",
        "test/reward",
        "snail_bandits_short",
        "10-5-SNAIL",
    ),
    Headline(
        f"{MISHRA} 3/N = 100, K = 5, SNAIL",
        "bandits, 5 arms, 100 pulls",
        "test/reward",
        "snail_bandits_k5",
    ),
    Headline(
        f"{MISHRA} 3/N = 100, K = 10, SNAIL",
        "bandits, 10 arms, 100 pulls",
        "test/reward",
        "snail_bandits_k10",
    ),
    Headline(f"{MISHRA} 4/N = 10, SNAIL", "MDPs, 10 episodes", RETURN, "snail_mdp_laptop"),
    Headline(f"{MISHRA} 4/N = 25, SNAIL", "MDPs, 25 episodes", RETURN, "snail_mdp", "25-SNAIL"),
)
METRIC_NAMES = {
    "bleu_tok_lc": "BLEU (tokenized, lower-cased)",
    "bits_per_sequence": "bits per sequence",
    "excess_bits": "bits above the optimum",
    "length": "tour length",
    "accuracy": "accuracy",
    "reward": "reward",
    "normalized_discounted": "normalized discounted return",
}
LOWER_IS_BETTER = {"bits", "error", "fid", "gap", "length", "per", "perplexity", "wer", "wrong"}


class Group(NamedTuple):
    """Repetitions of a run with different seeds.

    Attributes:
        folder: subdirectory of `results/`.
        sweep: name of the sweep, or empty.
        run: name in a sweep, without the seed; empty outside of sweeps.
        summaries: contents of `summary.json`, one per seed.
        first_run: contents of `first_run.json`, the summary of the run whose weights the run
            started from (`train.init_from`), or `None`.
    """

    folder: str
    sweep: str
    run: str
    summaries: list[dict]
    first_run: dict | None = None

    @property
    def config(self) -> str:
        return self.summaries[0]["config"]

    @property
    def key(self) -> tuple[str, str]:
        """Key of the command in `commands.commands`."""
        return (self.sweep, self.run) if self.sweep else ("", self.config)

    @property
    def paper(self) -> dict[str, float]:
        """Printed values; the recorded ones may be those of an earlier version."""
        command = commands().get(self.key)
        return command.paper if command else {}

    def values(self, metric: str) -> list[float]:
        return [x["metrics"][metric] for x in self.summaries if metric in x["metrics"]]

    def unique(self, key: str, separator: str = ", ") -> str:
        """Join the distinct values of a key of the summaries."""
        return separator.join(dict.fromkeys(str(x[key]) for x in self.summaries))

    def link(self, prefix: str = "") -> str:
        """Return a Markdown link to the folder, followed by the name of the run in a sweep.

        Args:
            prefix: path of `results/` relative to the page with the link.
        """
        return f"[{self.folder}]({prefix}{self.folder})" + f" {self.run}" * bool(self.run)

    @property
    def steps(self) -> str:
        """Number of steps, with the first run's before it."""
        runs = self.first_run, self.summaries[0]
        return " + ".join(f"{run['steps']:,}" for run in runs if run)

    @property
    def time(self) -> str:
        """Mean training time of a run, including its first run."""
        seconds = statistics.fmean(x["seconds"] for x in self.summaries)
        if self.first_run:
            return f"{format_duration(self.first_run['seconds'] + seconds)} (two runs)"
        return format_duration(seconds)


def main() -> None:
    """Update both tables in place."""
    for path, table in ((README, headline_table()), (RESULTS / "README.md", full_table())):
        path.write_text(replace_table(path.read_text("utf-8"), table), "utf-8")


def headline_table() -> str:
    """Format a row for each of `HEADLINES`."""
    groups = {(group.folder, group.run): group for group in read_groups()}
    rows = []
    for headline in HEADLINES:
        group = groups[headline.folder, headline.run]
        metric = headline.metric
        printed = papers.rows()[headline.row][metric]
        name = re.sub(r"_n\d+$", "", metric.partition("/")[2])
        rows.append(
            (
                papers.title(headline.row),
                headline.task,
                METRIC_NAMES[name],
                f"{printed:.4g}",
                format_mean(group.values(metric)),
                compare(group.values(metric), printed, metric),
                group.link("results/"),
                group.unique("device", "; "),
                group.time,
            )
        )
    header = ("paper", "task", "metric", "printed", "ours", "difference", "run", "hardware")
    return format_rows((*header, "time"), rows)


def full_table() -> str:
    """Format a row for each run and each metric that selects its checkpoint or is published."""
    rows = []
    for group in read_groups():
        for metric in dict.fromkeys([selection_metric(group.config), *group.paper]):
            ours, printed = group.values(metric), group.paper.get(metric)
            rows.append(
                (
                    group.link(),
                    metric,
                    format_mean(ours),
                    "–" if printed is None else f"{printed:.4g}",
                    compare(ours, printed, metric),
                    group.steps,
                    group.time,
                    group.unique("seed"),
                    group.unique("device", "; "),
                )
            )
    header = ("run", "metric", "ours", "printed", "difference", "steps", "time", "seeds")
    return format_rows((*header, "hardware"), rows)


def read_groups() -> Iterator[Group]:
    """Read all summaries, grouped by run.

    The summary of a sweep lists its runs. Otherwise `summary_1.json` is the one of seed 1, and
    `first_run.json` the one of the run whose weights the run started from.
    """
    for folder in sorted({path.parent for path in RESULTS.glob("*/summary*.json")}):
        contents = [json.loads(path.read_bytes()) for path in sorted(folder.glob("summary*.json"))]
        runs: dict[str, list[dict]] = {}
        sweep = folder.name if isinstance(contents[0], list) else ""
        for summary in contents[0] if sweep else contents:
            name = summary.get("run", "")
            if "seed" in summary.get("overrides", {}):
                name = re.sub(rf"(^|-){summary['seed']}$", "", name)
            runs.setdefault(name, []).append(summary)
        first = folder / "first_run.json"
        first_run = json.loads(first.read_bytes()) if first.exists() else None
        for name, summaries in runs.items():
            yield Group(folder.name, sweep, name, summaries, first_run)


def selection_metric(config: str) -> str:
    """Return the test metric corresponding to the dev metric that selects the best checkpoint."""
    best = importlib.import_module(f"configs.{config}").get_config().train.best
    return best.replace("dev/", "test/", 1)


def compare(ours: list[float], printed: float | None, metric: str) -> str:
    """Format the difference from the published result, as '-4.55 (miss)'.

    A match is within `TOLERANCE`, or within the rounding of the published result. A fraction has at
    least two decimals, as 0.30 is stored as 0.3.
    """
    if printed is None or not ours:
        return "–"
    difference = statistics.fmean(ours) - printed
    decimals = len(f"{printed}".partition(".")[2])
    if isinstance(printed, float) and abs(printed) <= 1:
        decimals = max(2, decimals)
    if abs(difference) <= max(TOLERANCE * abs(printed), 0.5 * 10**-decimals):
        verdict = "match"
    else:
        words = metric.partition("/")[2].split("_")
        lower_is_better = not LOWER_IS_BETTER.isdisjoint(words)
        verdict = "better" if (difference < 0) == lower_is_better else "miss"
    return f"{difference:+.3g} ({verdict})"


def replace_table(text: str, table: str) -> str:
    """Replace the text between the markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


if __name__ == "__main__":
    main()
