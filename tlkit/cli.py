"""The command line: `tlkit COMMAND [GROUP=OPTION] [KEY=VALUE] ...`; what follows the command is Hydra's."""

import atexit
import gc
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from tlkit.errors import Terminated, TlkitError, UsageError, did_you_mean, told

if TYPE_CHECKING:
    from omegaconf import DictConfig

COMMANDS = {
    "fit": "train a classifier on labelled images and evaluate it",
    "lr-find": "try rising learning rates on labelled images and suggest one for fit",
    "ensemble": "let finished runs vote, and say what that is worth",
    "evaluate": "measure a saved run on labelled images",
    "predict": "label images with a saved run",
    "compare": "rank finished runs and tell which of them really differ",
    "extract": "write CNN codes of images to files",
    "visualize": "draw filters, deconvnet projections, and what predictions are based on",
    "codes": "list, show, prune or verify what is kept of codes",
    "plugins": "list, describe and check the installed plugins",
    "backbones": "list the documented networks, from oldest to newest",
    "summary": "print a network layer by layer",
}
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn", "--info", "-i")
INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended


def main(argv: list[str] | None = None) -> int:
    """Run one command; return 0 when done, 1 when it failed, 2 for words that make no sense, 130 or 143 if stopped."""
    words = sys.argv[1:] if argv is None else argv
    match words:
        case [] | ["-h" | "--help" | "help", *_]:
            rows = [f"  {name:10}{what}" for name, what in COMMANDS.items()]
            print("usage: tlkit COMMAND [GROUP=OPTION] [KEY=VALUE] ...\n", *rows, _SEE_ALSO, sep="\n")
        case ["--version"]:
            print("tlkit", version("tlkit"))
        case ["--install-completion", shell]:
            _hydra("fit", ["-sc", f"install={shell}"], print)
        case ["-sc", *_]:  # the shell asks how COMP_LINE goes on
            _complete(words)
        case ["_rank", run_dir]:  # a fit on several devices starts its other processes so
            return _report("fit", lambda: _rank(Path(run_dir)))
        case [command, *rest] if command in COMMANDS:
            return _report(command, lambda: _start(command, rest))
        case [word, *_]:
            print(
                f"tlkit: no command called {word!r}.{did_you_mean(word, COMMANDS)} See tlkit --help.", file=sys.stderr
            )
            return UsageError.exit_code
    return 0


def program() -> NoReturn:
    """Be the program `tlkit`: end the process with what `main` returns."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(100_000)  # importing torch, timm and scikit-learn sets off a thousand collections for nothing: 1 s
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = TlkitError.exit_code
    if code in (INTERRUPTED, Terminated.exit_code):  # Python would wait for threads, and may forget the code
        _end(code)
    if threading.active_count() > 1:
        sys.exit(code)
    _end(code)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _end(code: int) -> NoReturn:
    """End the process at once: taking torch and timm down object by object takes a second."""
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


_SEE_ALSO = """
tlkit fit, without a word more, runs on embedded data with an embedded network. Then, for instance:
  tlkit fit data=folder data.root=PHOTOS backbone=resnet50
  tlkit predict run=RUN images=NEW_PHOTOS
See also: tlkit COMMAND --help; completion: eval "$(tlkit --install-completion bash)"."""


def _start(command: str, words: list[str]) -> None:
    failures: list[Exception] = []
    this_process = os.getpid()

    def task(cfg: "DictConfig") -> None:
        from tlkit import config, runs, workflow

        run_dir = _run_directory()
        try:
            settings = config.plain(cfg)
            if settings.get("resume") is not None:
                settings = workflow.resumed(settings, alone=len(_words_of_task()) == 1)
            workflow.run(command, settings, run_dir)
        except Exception as err:
            if os.getpid() != this_process:  # a launcher such as joblib or submitit moved the job
                raise _recorded(err) from None
            if not isinstance(err, TlkitError | BrokenPipeError):
                raise
            failures.append(_named(err))  # the other jobs of a sweep still run
        finally:
            _close_log()
            runs.remove_empty(run_dir)

    from tlkit import config

    words = _understood(command, words)
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback on the terminal
    try:
        _hydra(command, config.admit(words), task)
    except (KeyboardInterrupt, Terminated) as end:
        if any(word.startswith("hydra/launcher=") for word in words):
            end.add_note("of the jobs under way, those with a checkpoint.pt go on with tlkit fit resume=THEIR_FOLDER.")
        raise
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise TlkitError("\n".join(map(told, failures))) from failures[0]


def _understood(command: str, words: list[str]) -> list[str]:
    """Spell the words of a command as Hydra takes them, and refuse sweeps that make no sense."""
    from tlkit import ranks

    sweeps = bool({"-m", "--multirun"} & set(words))
    words = _codes_words(words) if command == "codes" else words
    words = _pattern_words(words) if command == "backbones" else words
    words = [word.removeprefix("data.") for word in words] if command == "summary" else words
    words = _run_words(words) if command in ("compare", "ensemble") else words
    words = _resuming(words) if command == "fit" else words
    if ranks.launched():  # the first rank's run directory and log are everybody's
        words = [*words, "hydra.run.dir=.", "hydra/job_logging=tlkit_console", "hydra.job_logging.root.level=WARNING"]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and sweeps:
        raise UsageError("several processes make one run, not a sweep: start a sweep without torchrun.")
    if command != "fit" and sweeps:
        raise UsageError("only fit sweeps: the jobs of other commands would write over each other's results.")
    if sweeps and "hydra/launcher=submitit_slurm" in words and shutil.which("srun") is None:
        raise UsageError("hydra/launcher=submitit_slurm: no srun here, so no SLURM. submitit_local needs none.")
    return words


def _named(err: Exception) -> Exception:
    """Say which job of a sweep an error is of."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    if hydra.mode is not RunMode.MULTIRUN or isinstance(err, BrokenPipeError):
        return err
    kind = UsageError if isinstance(err, UsageError) else TlkitError
    words = " ".join(hydra.overrides.task).replace("++", "")
    what = told(err) if isinstance(err, TlkitError) else repr(err)
    return kind(f"job {hydra.job.num} ({words}): {what}").with_traceback(err.__traceback__)


def _recorded(err: Exception) -> Exception:
    """Keep what a job of a sweep failed of, for the first process is told of the first failure only."""
    import traceback

    from hydra.core.hydra_config import HydraConfig

    if not isinstance(err, TlkitError):
        traceback.print_exception(err)
    named = _named(err)
    failed = Path(HydraConfig.get().sweep.dir) / "failed.txt"
    with failed.open("a", encoding="utf-8") as file:
        print(named, file=file)
    named.add_note(f"All that failed: {failed}")
    return named


def _rank(run_dir: Path) -> None:
    from tlkit import workflow

    workflow.rank(run_dir)


def _codes_words(words: list[str]) -> list[str]:
    """Let `tlkit codes show 12e4` mean action=show id='12e4': no number, as Hydra would have it."""
    keys, follows = iter(("action", "id")), dict(zip(words[1:], words, strict=False))
    bare = {word for word in words if not ("=" in word or word.startswith("-") or follows.get(word) in _WITH_VALUE)}
    spelled = [f"{next(keys, 'id')}={word}" if word in bare else word for word in words]
    return [f"id='{word.removeprefix('id=')}'" if word.startswith("id=") else word for word in spelled]


def _pattern_words(words: list[str]) -> list[str]:
    """Let `tlkit backbones resnet*` mean pattern='resnet*': no expression of Hydra's."""
    spelled = [word if "=" in word or word.startswith("-") else f"pattern={word}" for word in words]
    if sum(word.startswith("pattern=") for word in spelled) > 1:
        raise UsageError(f"{' '.join(words)}: give one pattern, in quotes where the shell would make file names of it.")
    return [f"pattern='{word.removeprefix('pattern=')}'" if word.startswith("pattern=") else word for word in spelled]


def _run_words(words: list[str]) -> list[str]:
    """Let `tlkit compare RUN FOLDER` mean runs=[RUN,FOLDER]; folders of sweeps have equals signs in their names.

    >>> _run_words(["runs/0-seed=1", "mine", "out=x", "--cfg", "job"])
    ["runs=['runs/0-seed=1','mine']", 'out=x', '--cfg', 'job']
    """
    from tlkit.config import quoted

    follows = dict(zip(words[1:], words, strict=False))
    named = [word for word in words if _is_path(word) and follows.get(word) not in _WITH_VALUE]
    rest = [word for word in words if word not in named]
    if named and any(word.startswith("runs=") for word in rest):
        raise UsageError("runs are named in two ways: give either words or runs=[...].")
    return [f"runs=[{','.join(map(quoted, named))}]", *rest] if named else rest


def _is_path(word: str) -> bool:
    """Tell whether a word is neither an option nor a setting."""
    setting = re.match(r"[~+]*([A-Za-z_][\w.]*|hydra/\w+)=", word)
    return not word.startswith("-") and (setting is None or Path(word).is_dir())


def _close_log() -> None:
    """Let go of the run's log.txt, which Hydra leaves open."""
    for handler in [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _resuming(words: list[str]) -> list[str]:
    """Let a run that goes on write to its own directory and log."""
    given = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("resume=")]
    if not given:
        return words
    if {"-m", "--multirun"} & set(words):
        raise UsageError("resume goes on with one run, not with a sweep: leave --multirun out.")
    from tlkit import runs

    run_dir = str(runs.unfinished(given[-1])).replace("\\", "\\\\").replace("'", "\\'")
    return [word for word in words if not word.startswith("resume=")] + [
        f"resume='{run_dir}'",
        f"hydra.run.dir='{run_dir}'",
    ]


def _words_of_task() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def _run_directory() -> Path:
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def _hydra(command: str, words: list[str], task: Callable[..., None]) -> None:
    import hydra

    from tlkit import config

    config.register()
    words, config.PluginConfigs.folder = _config_dir(words)
    words = sorted(words, key=lambda word: word not in ("-m", "--multirun"))  # argparse wants the overrides together
    with _process(argv=words, HYDRA_FULL_ERROR="1"):  # Hydra raises, _report prints
        hydra.main(version_base="1.3", config_path="pkg://tlkit.conf", config_name=f"_{command}")(task)()


def _config_dir(words: list[str]) -> tuple[list[str], Path | None]:
    """Take --config-dir out of the words of a command."""
    from argparse import ArgumentParser

    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    found, rest = parser.parse_known_args(words)
    if found.config_dir is not None and not found.config_dir.is_dir():
        raise UsageError(f"--config-dir {found.config_dir}: no such folder.")
    return rest, found.config_dir and found.config_dir.absolute()


def _complete(words: list[str]) -> None:
    program, _, line = os.environ["COMP_LINE"].partition(" ")
    command, space, tail = line.lstrip().partition(" ")
    if not space:
        print(*COMMANDS)
    elif command in COMMANDS:
        from tlkit.config import RegisteredPlugins

        RegisteredPlugins.list_families = "/" in tail.split(" ")[-1]
        nowhere = Path(os.devnull).open("w")  # noqa: SIM115
        with nowhere, redirect_stderr(nowhere), _process(COMP_LINE=f"{program} {tail}"):
            _report(command, lambda: _hydra(command, words, print))


def _report(command: str, action: Callable[[], None]) -> int:
    """Print an error the user can fix as one message; HYDRA_FULL_ERROR=1 asks for the traceback."""
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        action()
    except SystemExit as end:  # Hydra and argparse end so after --help and the like
        return int(end.code or 0)
    except (KeyboardInterrupt, Terminated) as end:
        return _stopped(command, end)
    except BrokenPipeError:
        raise
    except Exception as err:
        if stop := _stop_behind(err):
            return _stopped(command, stop)
        code, message = _explain(err)
        if message is None or traceback_wanted:
            raise
        print(f"tlkit {command}: {message}", file=sys.stderr)
        return code
    return 0


def _stopped(command: str, end: BaseException) -> int:
    what = "interrupted" if isinstance(end, KeyboardInterrupt) else "terminated"
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"\ntlkit {command}: {what}; {told(end) or 'nothing half-written was left behind.'}", file=sys.stderr)
    return INTERRUPTED if isinstance(end, KeyboardInterrupt) else Terminated.exit_code


def _stop_behind(err: BaseException) -> BaseException | None:
    """Return the Ctrl-C or SIGTERM that an error comes of: torch's writer of files fails if it is stopped halfway.

    >>> try:
    ...     try:
    ...         raise KeyboardInterrupt
    ...     finally:
    ...         raise RuntimeError
    ... except RuntimeError as err:
    ...     print(repr(_stop_behind(err)))
    KeyboardInterrupt()
    """
    end = err.__context__
    while end is not None and not isinstance(end, KeyboardInterrupt | Terminated):
        end = end.__context__
    for note in getattr(err, "__notes__", []) if end else []:
        end.add_note(note)  # type: ignore[union-attr]
    return end


def _explain(err: Exception) -> tuple[int, str | None]:
    if isinstance(err, TlkitError):
        return err.exit_code, told(err)
    if isinstance(err, OSError) and err.filename and err.strerror:
        return TlkitError.exit_code, f"{err.strerror}: {err.filename}"
    from tlkit.config import explain

    return UsageError.exit_code, explain(err)


@contextmanager
def _process(argv: list[str] | None = None, **environ: str) -> Iterator[None]:
    """Change the arguments and the environment of this process for a while."""
    saved = sys.argv, dict(os.environ)
    sys.argv = sys.argv if argv is None else [sys.argv[0], *argv]
    os.environ.update(environ)
    try:
        yield
    finally:
        sys.argv = saved[0]
        os.environ.clear()
        os.environ.update(saved[1])
