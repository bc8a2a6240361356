"""Makes the plans kept in `results/plans/`: `python -m results.plans`.

Each is what `train.py --plan` says of a config that is sized for a paper, on hardware that the
machine it was asked on need not have.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "plans"
PLANS = {
    "transformer_base_wmt14": ("v5e:4x4", "v5p:2x2x2"),
    "transformer_big_wmt14": ("v5e:4x4", "v5p:2x2x2"),
}


def main(names: list[str]) -> None:
    """Writes those named, or all."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or PLANS:
        parts = [f"# {name}: what its step needs"]
        for hardware in PLANS[name]:
            command = ["train.py", f"--config=configs/{name}.py", f"--plan={hardware}"]
            done = subprocess.run(
                [sys.executable, *command],
                cwd=FOLDER.parents[1],
                capture_output=True,
                text=True,
                check=True,
            )
            parts.append(f"    python {' '.join(command)}\n\n```\n{done.stdout.rstrip()}\n```")
        (FOLDER / f"{name}.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
