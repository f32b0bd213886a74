"""What `--help` prints: flags of the program, and options of its config with types, values and one line each."""

import re
import sys
from collections.abc import Iterator

from absl import flags
from ml_collections import ConfigDict

from experiments.model_options import known_options

# One line for every option outside of section `model`, whose options say themselves what they do.
LINES = {
    "name": "name of the run, and of its folder below out/",
    "figures": "draw figures at the end",
    "train.seeds": "random seeds, one independent run each",
    "train.parallel_seeds": "seeds that are trained together in one program, in groups of up to so many",
    "train.epochs": "epochs to train; 0 where train.steps is set",
    "train.steps": "batches to train; 0 where train.epochs is set",
    "train.min_steps": "steps below which there are more epochs, unless train.epochs is given; for few samples",
    "train.batch_size": "samples per batch",
    "train.accumulation": "batches per optimizer step",
    "train.clip_norm": "largest norm of the gradient; 0: no clipping",
    "train.ema_decay": "decay of the averaged weights per step; 0: no average",
    "train.dtype": "of the computation, float32 or bfloat16; parameters, coordinates and times are float32",
    "train.matmul_precision": "of float32 products: default (TF32 on a GPU), high or highest",
    "train.init_from": "run, converted model or safetensors file whose weights training begins with",
    "train.init_weights": "which of its weights: ema or raw; empty: those that it reports",
    "train.init_strict": "refuse weights of other widths at input or output, where layers would begin new",
    "train.init_normalizers": "refit: fitted to these data; keep: those of init_from",
    "train.freeze": "parameters that stay as they are, such as blocks.0.*,in_proj.*; empty: none",
    "train.halt_weight": "of the loss of the halting head, which the original leaves untrained",
    "optimizer.name": "adamw, lion or muon",
    "optimizer.learning_rate": "peak learning rate",
    "optimizer.weight_decay": "decoupled weight decay",
    "optimizer.beta1": "decay of the first moment, where schedule.cycle_momentum does not replace it",
    "optimizer.beta2": "decay of the second moment; None: 0.999 for adamw and muon, 0.99 for lion",
    "optimizer.eps": "added to the root of the second moment",
    "optimizer.decay_latents": "weight decay of latents too",
    "optimizer.muon_learning_rate": "peak learning rate of the matrices",
    "optimizer.muon_momentum": "momentum of the matrices",
    "schedule.name": "onecycle, constant, cosine or cosine_restarts",
    "schedule.pct_start": "share of the run in which the rate rises",
    "schedule.div_factor": "peak rate over the first one",
    "schedule.final_div_factor": "first rate over the last one",
    "schedule.min_learning_rate": "above 0: first and last rate, instead of the two factors",
    "schedule.three_phase": "fall back to the first rate before the last phase",
    "schedule.anneal": "form of the rise and fall: cos or linear",
    "schedule.cycle_momentum": "beta1 falls while the rate rises, and rises while it falls",
    "schedule.base_momentum": "beta1 at the peak of the rate",
    "schedule.max_momentum": "beta1 at both ends",
    "eval.every": "epochs (steps in runs given in steps) between evaluations; 0: a tenth of the run",
    "eval.batch_size": "samples per batch of an evaluation",
    "eval.weights": "weights of the headline metric: ema or raw",
    "eval.simple_predictors": "report beside the model two predictors that are fitted in seconds",
    "eval.train_samples": "training samples that are evaluated at the end; 0: all",
    "eval.until_halt": "stop where the halting head says so, instead of after model.num_steps",
    "eval.streaming": "also read every test text from its beginning to its end with one state",
    "checkpoint.every": "epochs (steps in runs given in steps) between checkpoints; 0: a fiftieth of the run",
    "checkpoint.keep_last": "newest checkpoints that are kept",
    "checkpoint.keep_best": "best checkpoints by the validation samples that are kept",
    "mesh.data": "devices along the batch",
    "mesh.points": "devices along the points of a sample",
    "data.name": "data set or task",
    "data.dir": "folder of all data sets",
    "data.source": "auto: files, else generated; files: never generate; generated: never public files",
    "data.num_generate": "samples to generate where files are missing",
    "data.generate_seed": "random seed of generated data",
    "data.resolution": "points per side of generated grids; 0: those of the public data",
    "data.n_train": "training samples; of token sequences 0 means all",
    "data.n_test": "test samples; of token sequences 0 means all, of each other split",
    "data.stream": "read samples from disk while training: auto, always or never",
    "data.memory_gib": "size of the files from which stream=auto streams",
    "data.cache": "folder of the converted files; empty: cache/ below the data folder",
    "data.path": "your files: a folder, or one HDF5 file with a group per sample, or one text file",
    "data.points": "array of the coordinates",
    "data.inputs": "arrays of what is known beside the coordinates, by commas",
    "data.targets": "arrays of the fields to predict, by commas",
    "data.cell_data": "values at cells of a mesh: empty: unused; centres: they are the points; nodes: averaged there",
    "data.files": "pattern of the names of sample or text files, such as *.vtu, where others are beside them",
    "data.split_seed": "draws the samples of splits that are in no folders of these",
    "data.integrals": "integrals to report: force:pressure,shear@wall; flux:velocity@outlet; mean:temperature@chip",
    "data.reference": "of force coefficients: density=1.2,speed=40,area=2.1",
    "data.time": "of series: empty: every step is a sample; input: so, from its time; rollout: from the last step",
    "data.prescribed": "in a rollout the field that marks points whose state is given at all times",
    "data.n_val": "validation samples, which choose the best checkpoint; 0: those of the folder val, or none",
    "data.buckets": "sizes that clouds of points are padded to, one compilation each",
    "data.fields": "fields to predict, by commas",
    "data.distance_features": "distances to the surface as inputs beside the places",
    "data.drop_plate": "leave out the plate below the part",
    "data.hanging_edges": "edges of hanging nodes to the larger element, for messages along edges",
    "data.history": "known frames",
    "data.steps": "frames to predict",
    "data.normalize": "standardise the frames",
    "data.side": "points per side of the grid",
    "data.skip_steps": "steps of a series that are left out at its start",
    "data.max_steps": "steps of a series that are used",
    "data.max_length": "tokens of a document; longer ones are cut",
    "data.mask_padding": "padding has a token of its own and is masked",
    "data.pad_blank": "blank cells are padding and are masked",
    "data.subsample": "training puzzles before augmentation; 0: all",
    "data.num_augment": "augmented copies of each training puzzle",
    "data.augment": "eight orientations of each training maze",
    "data.augment_seed": "random seed of subsampling and augmentation",
    "data.min_rating": "least difficulty of a training puzzle",
    "data.validation": "share of the training set that is kept for validation",
    "data.level": "difficulty of the pictures",
    "data.split": "how the samples are divided: shares of train, val and test, a JSON file of names, or a named way",
    "data.grid": "sizes of a structured grid, such as 64,64; empty: a cloud of points",
    "data.encode_colors": "colours as tokens of their own",
    "data.val": "documents that validate: patterns of their names, by commas",
    "data.test": "documents that test: patterns of their names, by commas",
    "data.val_share": "share of the text that validates, where no names are given",
    "data.test_share": "share of the text that tests, from its end, where no names are given",
    "data.tokenizer": "bytes, or bpe: byte-pair encoding, trained on the training text",
    "data.vocab_size": "tokens of the byte-pair encoding, or of associative recall",
    "data.length": "tokens of a row",
    "data.reset_documents": "a document knows nothing of those before it in its row",
    "data.pairs": "keys and values of a row",
    "task.gradient_weight": "of the gradient term of the loss",
    "task.original_metric": "report the original's expression too",
    "task.feed": "what enters the window in training: truth, pushforward or prediction",
    "task.noise": "standard deviation of the training noise",
    "task.fill_new_layer": "new nodes begin with the fields of the nearest node below them",
    "task.first": "step before which states are given in an evaluation",
    "task.symmetries": "turn and mirror parts at random in every step, which changes no field",
    "task.teacher_forced": "evaluate every step from the true state before it",
    "task.times_per_step": "random times of a step; 0: one step on each time",
    "task.points_per_step": "random points of each sample that a step trains on; 0: all",
    "task.points_per_piece": "points of a sample that evaluation computes at a time; 0: all at once",
}


def wanted(arguments: list[str]) -> bool:
    """Tell whether the command line asks for help."""
    return any(re.fullmatch(r"--?(help|helpfull|helpshort|h)", text) for text in arguments)


def text(program: str, values: flags.FlagValues, config: ConfigDict | None) -> str:
    """Return the help of a program; `config` is that of its command line, if any."""
    own = [
        flag
        for module, defined in values.flags_by_module_dict().items()
        if not module.startswith(("absl.", "orbax."))
        for flag in defined
    ]
    about = (getattr(sys.modules["__main__"], "__doc__", None) or "").strip()
    lines = [f"python -m {program} --FLAG=VALUE ...", "", *([about, ""] if about else []), "Flags:"]
    lines += [f"  --{flag.name}  {flag.help}{_default(flag)}" for flag in sorted(own, key=lambda flag: flag.name)]
    if config is None:
        lines += ["", "The options of a config are listed with --config=FILE --help."] if "config" in values else []
    else:
        lines += ["", "Options of the config, with their values there:", *option_lines(config)]
    return "\n".join(lines)


def _default(flag: flags.Flag) -> str:
    """Return the default of a flag that has one which says something, None and empty lists do not."""
    return "" if flag.default in (None, [], "", False) else f" (default: {flag.default})"


def option_lines(config: ConfigDict) -> Iterator[str]:
    """Return one line per option of a config: name, value, what it takes, what it does."""
    known = known_options(config.model)
    for name, kind, value in _flatten(config):
        section, _, option = name.partition(".")
        if section == "model" and option in known:
            yield f"  --config.{name}={value}  ({known[option].expected}) {known[option].help}"
        elif section == "model":
            yield f"  --config.{name}={value}  ({kind}) chosen by the config and its :variant"
        else:
            yield f"  --config.{name}={value}  ({kind}) {LINES[name]}"


def _flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, str, object]]:
    for key in config:
        if isinstance(config[key], ConfigDict):
            yield from _flatten(config[key], f"{prefix}{key}.")
        else:
            yield prefix + key, config.get_type(key).__name__, config[key]
