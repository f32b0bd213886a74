"""The program: find the run, read the prompts, and write what follows as it comes."""

import codecs
import sys
from pathlib import Path

import jax
from absl import flags
from flax import nnx
from ml_collections import ConfigDict

from data_pipeline.language.tokenizer import SEPARATOR, Tokenizer, load_tokenizer
from experiments import workdir
from experiments.errors import UserError
from experiments.lm.models import build
from experiments.model_options import program_of
from flare_jax import params as model_params
from flare_jax.convert.runs import read_run
from flare_jax.models.language import Generator, Sampling

FLAGS = flags.FLAGS


def main() -> None:
    """Continue the prompts that the flags give."""
    if FLAGS.workdir is None:
        raise UserError("--workdir is missing; for example --workdir=out/lm_recommended_tiny")
    for name, most in (("tokens", 2**30), ("piece", 2**20)):
        if not 1 <= FLAGS[name].value <= most:
            raise UserError(f"--{name}={FLAGS[name].value} must be an integer from 1 to {most}; change it")
    folder = Path(FLAGS.workdir)
    sampling = Sampling(FLAGS.temperature, FLAGS.top_k, FLAGS.top_p)
    config, tokenizer = _run(folder)
    prompts = FLAGS.prompt or [""]
    ids = [_tokens(prompt, tokenizer) for prompt in prompts]
    continued = _generator(folder, config, tokenizer, sampling)(ids, FLAGS.tokens, FLAGS.seed)
    texts = [prompt.encode() for prompt in prompts]
    streams = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in prompts]
    alone = len(prompts) == 1
    if alone:
        _write(streams[0].decode(texts[0]))
    for pieces in continued:
        written = [tokenizer.decode(piece) for piece in pieces]
        texts = [text + new for text, new in zip(texts, written, strict=True)]
        if alone:
            _write(streams[0].decode(written[0]))
    if alone:
        _write(streams[0].decode(b"", final=True) + "\n")
        return
    for number, text in enumerate(texts, 1):
        print(f"--- {number} of {len(texts)}\n{text.decode(errors='replace')}")


def _run(folder: Path) -> tuple[ConfigDict, Tokenizer]:
    """Return the configuration of the run in a folder, and its tokenizer."""
    content = workdir.read_config_file(folder)
    config = ConfigDict(content["config"])
    if program_of(config) != "lm" or config.data.name != "text":
        raise UserError(f"{folder} holds no run of a language model on text; name one of experiments.lm")
    data = content.get("data") or {}
    if not {"vocab_size", "tokenizer"} <= data.keys():  # written once the text is there
        raise UserError(f"{folder} holds a run that has not begun to train, so there is no model; train it first")
    config.data.vocab_size = data["vocab_size"]
    tokenizer = load_tokenizer(data["tokenizer"], folder)
    if tokenizer.vocab_size != config.data.vocab_size:
        raise UserError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, but the model of the run was trained on "
            f"{config.data.vocab_size}; take the run's own"
        )
    return config, tokenizer


def _tokens(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a prompt; an empty one is the beginning of a document."""
    if "\0" in prompt:
        raise UserError(f"--prompt={prompt!r} holds the byte 0, which separates documents; leave it out")
    try:
        return [int(i) for i in tokenizer.encode(prompt.encode())] if prompt else [SEPARATOR]
    except UnicodeEncodeError as error:  # bytes of the command line that are no text
        raise UserError(f"--prompt={prompt!r} is not text in UTF-8; convert it") from error


def _generator(folder: Path, config: ConfigDict, tokenizer: Tokenizer, sampling: Sampling) -> Generator:
    seeds = tuple(config.train.seeds)
    if FLAGS.run_seed is not None and FLAGS.run_seed not in seeds:
        raise UserError(f"--run_seed={FLAGS.run_seed} is not among the seeds {seeds} of the run; choose one of them")
    if len(seeds) > 1:
        folder = folder / f"seed_{seeds[0] if FLAGS.run_seed is None else FLAGS.run_seed}"
    run = read_run(folder, FLAGS.step)
    graphdef, _ = model_params.split(nnx.eval_shape(lambda: build(config, config.data.vocab_size, 0)))
    params = jax.device_put(dict(run.weights[run.choose(FLAGS.weights, folder)]))
    return Generator(graphdef, params, sampling, stop=SEPARATOR, piece=FLAGS.piece)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
