"""The options of every section of a configuration but `model`: type, default, limits and one line of help each.

Sections have the defaults of the original's experiments on fields; `experiments.*.defaults` and configs change what
differs. Options of a data set alone are in its record (`data_pipeline.record`, `data_pipeline.sequence.layout`).
"""

from dataclasses import dataclass
from typing import Any

from data_pipeline.options import MOST, seed
from data_pipeline.registry import SOURCES
from experiments.training.optimizers import OPTIMIZERS
from experiments.training.schedules import ANNEALS, SCHEDULES
from runtime.options import Config, option


def count(default: int, help: str, minimum: int = 0, **conditions: Any) -> Any:
    """Return an option that counts steps, samples or devices, which 32 bits do."""
    return option(default, help=help, minimum=minimum, maximum=MOST, **conditions)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Config):
    """Options outside of any section."""

    name: str = option(help="name of the run, and of its folder below out/")
    figures: bool = option(True, help="draw figures at the end")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Config):
    """How long and on how much a model is trained, and what it begins with."""

    seeds: tuple[int, ...] = option((0,), help="random seeds, one independent run each")
    parallel_seeds: int = count(1, "seeds that are trained together in one program, in groups of up to so many", 1)
    epochs: int = count(100, "epochs to train; 0 where train.steps is set")
    steps: int = count(0, "batches to train; 0 where train.epochs is set")
    min_steps: int = count(0, "steps below which there are more epochs, unless train.epochs is given; for few samples")
    batch_size: int = count(2, "samples per batch", 1)
    accumulation: int = count(1, "batches per optimizer step", 1)
    clip_norm: float = option(1.0, help="largest norm of the gradient; 0: no clipping", minimum=0)
    ema_decay: float = option(0.999, help="decay of the averaged weights per step; 0: no average", minimum=0, below=1)
    dtype: str = option(
        "float32",
        help="of the computation; parameters, coordinates and times are float32",
        choices=("float32", "bfloat16"),
    )
    matmul_precision: str = option(
        "default", help="of float32 products; default: TF32 on a GPU", choices=("default", "high", "highest")
    )
    init_from: str = option("", help="run, converted model or safetensors file whose weights training begins with")
    init_weights: str = option(
        "", help="which of its weights; empty: those that it reports", choices=("", "ema", "raw")
    )
    init_strict: bool = option(
        False, help="refuse weights of other widths at input or output, where layers would begin new"
    )
    init_normalizers: str = option(
        "refit", help="refit: fitted to these data; keep: those of init_from", choices=("refit", "keep")
    )
    freeze: str = option("", help="parameters that stay as they are, such as blocks.0.*,in_proj.*; empty: none")


@dataclass(frozen=True, kw_only=True)
class RecursiveTrainOptions(TrainOptions):
    """The same of the recursive model."""

    halt_weight: float = option(
        0.0, help="of the loss of the halting head, which the original leaves untrained", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions(Config):
    """The optimizer."""

    name: str = option("adamw", help="the optimizer", choices=OPTIMIZERS)
    learning_rate: float = option(1e-3, help="peak learning rate", above=0)
    weight_decay: float = option(0.0, help="decoupled weight decay", minimum=0)
    beta1: float = option(
        0.9, help="decay of the first moment, where schedule.cycle_momentum does not replace it", minimum=0, below=1
    )
    beta2: float | None = option(
        None, help="decay of the second moment; None: 0.999 for adamw and muon, 0.99 for lion", minimum=0, below=1
    )
    eps: float = option(1e-8, help="added to the root of the second moment", above=0, unless=("name", "lion"))
    decay_latents: bool = option(True, help="weight decay of latents too")
    muon_learning_rate: float = option(0.02, help="peak learning rate of the matrices", above=0, needs=("name", "muon"))
    muon_momentum: float = option(0.95, help="momentum of the matrices", minimum=0, below=1, needs=("name", "muon"))


_ONE_CYCLE = ("name", "onecycle")


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions(Config):
    """The course of the learning rate."""

    name: str = option("onecycle", help="the schedule", choices=SCHEDULES)
    pct_start: float = option(
        0.1, help="share of the run in which the rate rises", above=0, maximum=1, needs=_ONE_CYCLE
    )
    div_factor: float = option(1e4, help="peak rate over the first one", minimum=1, needs=_ONE_CYCLE)
    final_div_factor: float = option(1e4, help="first rate over the last one", above=0, needs=_ONE_CYCLE)
    min_learning_rate: float = option(
        0.0, help="above 0: first and last rate, instead of the two factors", minimum=0, needs=_ONE_CYCLE
    )
    three_phase: bool = option(False, help="fall back to the first rate before the last phase", needs=_ONE_CYCLE)
    anneal: str = option("cos", help="form of the rise and fall", choices=ANNEALS, needs=_ONE_CYCLE)
    cycle_momentum: bool = option(
        True, help="beta1 falls while the rate rises, and rises while it falls", needs=_ONE_CYCLE
    )
    base_momentum: float = option(0.85, help="beta1 at the peak of the rate", minimum=0, below=1, needs=_ONE_CYCLE)
    max_momentum: float = option(0.95, help="beta1 at both ends", minimum=0, below=1, needs=_ONE_CYCLE)


@dataclass(frozen=True, kw_only=True)
class EvalOptions(Config):
    """How a model is evaluated."""

    every: int = count(0, "epochs (steps in runs given in steps) between evaluations; 0: a tenth of the run")
    batch_size: int = count(5, "samples per batch of an evaluation", 1)
    weights: str = option("ema", help="weights of the headline metric", choices=("ema", "raw"))


@dataclass(frozen=True, kw_only=True)
class FieldEvalOptions(EvalOptions):
    """The same of models of fields."""

    simple_predictors: bool = option(True, help="report beside the model two predictors that are fitted in seconds")


@dataclass(frozen=True, kw_only=True)
class TokenEvalOptions(EvalOptions):
    """The same of models of token sequences."""

    train_samples: int = count(10_000, "training samples that are evaluated at the end; 0: all")


@dataclass(frozen=True, kw_only=True)
class RecursiveEvalOptions(TokenEvalOptions):
    """The same of the recursive model."""

    until_halt: bool = option(False, help="stop where the halting head says so, instead of after model.num_steps")


@dataclass(frozen=True, kw_only=True)
class TextEvalOptions(TokenEvalOptions):
    """The same of models of text."""

    streaming: bool = option(False, help="also read every test text from its beginning to its end with one state")


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(Config):
    """What is kept of a run."""

    every: int = count(0, "epochs (steps in runs given in steps) between checkpoints; 0: a fiftieth of the run")
    keep_last: int = count(2, "newest checkpoints that are kept", 1)
    keep_best: int = count(1, "best checkpoints by the validation samples that are kept")


@dataclass(frozen=True, kw_only=True)
class MeshOptions(Config):
    """How a run is split over devices; -1 takes all that are left."""

    data: int = count(1, "devices along the batch", -1)
    points: int = count(1, "devices along the points of a sample", -1)


@dataclass(frozen=True, kw_only=True)
class DataOptions(Config):
    """Where data come from; 0 samples of token sequences or own files means all."""

    name: str = option(help="data set or task")
    dir: str = option("data", help="folder of all data sets")
    source: str = option(
        "files",
        help="auto: files, else generated; files: never generate; generated: never public files",
        choices=SOURCES,
    )
    n_train: int = count(0, "training samples; of token sequences 0 means all")
    n_test: int = count(0, "test samples; of token sequences 0 means all, of each other split")


@dataclass(frozen=True, kw_only=True)
class GeneratedDataOptions(DataOptions):
    """The same where files can be generated."""

    num_generate: int = count(2000, "samples to generate where files are missing", 1)
    generate_seed: int = seed(0, "random seed of generated data")


@dataclass(frozen=True, kw_only=True)
class FieldDataOptions(GeneratedDataOptions):
    """The same of fields on points."""

    resolution: int = option(
        0, help="points per side of generated grids; 0: those of the public data", minimum=0, maximum=2**14
    )


@dataclass(frozen=True, kw_only=True)
class RowDataOptions(DataOptions):
    """Data of language models: rows of tokens."""

    length: int = option(256, help="tokens of a row", minimum=2, maximum=2**24)


@dataclass(frozen=True, kw_only=True)
class RecallDataOptions(RowDataOptions):
    """Associative recall."""

    source: str = option("generated", help="generated: it is made anew for every run")
    n_train: int = count(100_000, "training rows")
    n_test: int = count(3000, "test rows")
    pairs: int = count(4, "keys and values of a row", 1)
    vocab_size: int = option(8192, help="tokens", minimum=4, maximum=2**16)
    generate_seed: int = seed(0, "random seed of the rows")


@dataclass(frozen=True, kw_only=True)
class TextDataOptions(RowDataOptions):
    """A text of your own."""

    path: str = option("", help="your text: a folder, or one file")
    files: str = option("*.txt", help="pattern of the names of the text files, where others are beside them")
    val: str = option("", help="documents that validate: patterns of their names, by commas")
    test: str = option("", help="documents that test: patterns of their names, by commas")
    val_share: float = option(
        0.0, help="share of the text that validates, where no names are given", minimum=0, below=1
    )
    test_share: float = option(
        0.1, help="share of the text that tests, from its end, where no names are given", minimum=0, below=1
    )
    tokenizer: str = option(
        "bytes", help="bytes, or bpe: byte-pair encoding, trained on the training text", choices=("bytes", "bpe")
    )
    vocab_size: int = option(16_384, help="tokens of the byte-pair encoding", minimum=4, maximum=2**16)
    reset_documents: bool = option(False, help="a document knows nothing of those before it in its row")
