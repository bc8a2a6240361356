"""Write `results/plans/NAME.md` from `train.py --plan`, for paper-sized configs.

    python -m results.plans [NAME ...] [--config.KEY=VALUE ...]

Options are passed to `train.py`. The command needs the TPU compiler, but no TPU:
`pip install -r requirements-plan.txt`.
"""

import subprocess
import sys
from pathlib import Path

PLANS_DIR = Path(__file__).parent / "plans"
HARDWARE = {
    "captioning_coco": ("v5e:2x2",),
    "captioning_flickr8k": ("v5e:2x2",),
    "ptrnet_hull_gpu": ("v5e:2x2",),
    "ptrnet_tsp20_bello": ("v5e:2x2",),
    "sagan_cifar10": ("v5e:2x2",),
    "sagan_imagenet128": ("v5e:4x4",),
    "seq2seq_bahdanau_wmt14": ("v5e:2x2",),
    "seq2seq_g2p_toshniwal": ("v5e:2x2",),
    "seq2seq_hull": ("v5e:2x2",),
    "seq2seq_luong_wmt14": ("v5e:2x2",),
    "snail_miniimagenet": ("v5e:2x2",),
    "snail_omniglot": ("v5e:2x2",),
    "transformer_base_wmt14": ("v5e:4x4", "v5p:2x2x2"),
    "transformer_base_wmt14_enfr": ("v5e:4x4",),
    "transformer_big_wmt14": ("v5e:4x4", "v5p:2x2x2"),
    "transformer_big_wmt14_enfr": ("v5e:4x4",),
}


def main(arguments: list[str]) -> None:
    """Write the plans of the named configs, by default all."""
    options = [x for x in arguments if x.startswith("--")]
    names = [x for x in arguments if not x.startswith("--")]
    PLANS_DIR.mkdir(exist_ok=True)
    for name in names or HARDWARE:
        parts = [f"# Hardware plans of {name}"]
        for hardware in HARDWARE[name]:
            command = ["train.py", f"--config=configs/{name}.py", *options, f"--plan={hardware}"]
            done = subprocess.run(
                [sys.executable, *command],
                cwd=PLANS_DIR.parents[1],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                sys.exit(done.stderr)
            parts.append(f"    python {' '.join(command)}\n\n```\n{done.stdout.rstrip()}\n```")
        (PLANS_DIR / f"{name}.md").write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
