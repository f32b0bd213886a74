"""Draw the figures of measured studies: `python docs/draw_studies.py` makes study_*.png of study_*.csv in docs/figures.

The tables are of the form that `python -m experiments.sweep --collect` writes, put together from several sweeps;
published numbers, titles and kinds of figures are those of the studies.
"""

from importlib import import_module
from pathlib import Path

from experiments.sweep.rows import read_csv

FIGURES = Path(__file__).parent / "figures"


def main() -> None:
    """Write the figures."""
    for table in sorted(FIGURES.glob("study_*.csv")):
        study = import_module(f"studies.{table.stem.removeprefix('study_')}").get_study("")
        rows = read_csv(table, study.columns, study.published)
        for name, drawing in study.figures.items():
            drawing.draw(study.title, rows).savefig(FIGURES / f"study_{name}.png", dpi=110)


if __name__ == "__main__":
    main()
