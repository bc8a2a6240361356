"""Slurm resources of each run of a sweep.

    python sweep.py --sweep=FILE --launcher=slurm --slurm=configs/launchers/slurm.py

Override single values on the command line, such as `--slurm.partition=gpu`; copy this file for
settings that a cluster always needs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.partition = ""  # "" for the cluster's default
    config.hours = 24.0  # time limit; a longer run saves, is requeued and resumes
    config.nodes = 1  # per run, one process each
    config.gpus = 1  # per node; 0 for none
    config.cpus = 8  # per node
    config.memory = ""  # per node, such as "32G"; "" for the cluster's default
    config.max_parallel = 100  # largest number of concurrent runs
    config.grace_seconds = 90  # time to save before the time limit
    config.setup = ()  # shell commands before the run, such as ("module load cuda",)
    config.options = {}  # further options of sbatch, such as {"account": "name"}
    return config.lock()
