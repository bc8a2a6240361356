"""What a run of a sweep gets from Slurm.

    python sweep.py --sweep=FILE --launcher=slurm --slurm=configs/launchers/slurm.py

Any value can be changed on the command line, as `--slurm.partition=gpu`; what your cluster always
wants is best said in a copy of this file.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.partition = ""  # the cluster's default
    config.hours = 24.0  # a run that needs longer is saved, queued again, and goes on
    config.nodes = 1  # one run on each so many nodes, one process a node
    config.gpus = 1  # of a node; 0 for none
    config.cpus = 8  # of a node
    config.memory = ""  # of a node, as "32G"; "" is the cluster's default
    config.at_once = 100  # most runs of the sweep at a time
    config.grace = 90  # seconds before the end of its time in which a run saves
    config.setup = ()  # shell commands before a run, as ("module load cuda",)
    config.more = {}  # further options of sbatch, as {"account": "me"}
    return config.lock()
