"""Write `results/plans/NAME.md` from `train.py --plan`, for paper-sized configs.

    python -m results.plans [NAME ...]

Needs the TPU compiler (`pip install -r requirements-plan.txt`) but no TPU.
"""

import subprocess
import sys
from pathlib import Path

PLANS_DIR = Path(__file__).parent / "plans"
HARDWARE = {
    "transformer_base_wmt14": ("v5e:4x4", "v5p:2x2x2"),
    "transformer_big_wmt14": ("v5e:4x4", "v5p:2x2x2"),
}


def main(names: list[str]) -> None:
    """Write the plans of the named configs, by default all."""
    PLANS_DIR.mkdir(exist_ok=True)
    for name in names or HARDWARE:
        parts = [f"# Hardware plans of {name}"]
        for hardware in HARDWARE[name]:
            command = ["train.py", f"--config=configs/{name}.py", f"--plan={hardware}"]
            done = subprocess.run(
                [sys.executable, *command],
                cwd=PLANS_DIR.parents[1],
                capture_output=True,
                text=True,
                check=True,
            )
            parts.append(f"    python {' '.join(command)}\n\n```\n{done.stdout.rstrip()}\n```")
        (PLANS_DIR / f"{name}.md").write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
