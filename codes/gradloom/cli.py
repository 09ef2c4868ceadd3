"""The command line: train, check, try out, profile, apply or draw an options file. Only it prints and exits."""

import argparse
import atexit
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradloom.config.document import Document, read
from gradloom.config.sections import sections
from gradloom.errors import Diverged, Fault, LostTouch, OptionsError, RunError, in_order
from gradloom.raised import in_short, is_a_slip, own_line, places

if TYPE_CHECKING:
    from gradloom.plan.plan import Plan

DONE, FAILED, REFUSED, DIVERGED = 0, 1, 2, 3
_APPLIED = ("test", "process_video")  # which train nothing
VERBS = ("train", "check", "smoke", "profile", *_APPLIED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 the options are wrong, 3 diverged."""
    _write_anything()
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # while a run is under way it is noted instead
        print("stopped by Ctrl-C", file=sys.stderr)
        return 128 + signal.SIGINT


def _main(given: list[str]) -> int:
    if given[:1] == ["schema"]:
        return _schema(given[1:])
    options = _parsed(given)
    document = read(options.opt, options.set)
    told = _tell(_cheap(document), ())
    if document.root is None or document.doubtful:  # what else is wrong depends on what the text was to say
        return _refuse_everywhere(options, told)
    try:
        return _compile_and_run(document, options, told)
    except SystemExit as error:  # of a plugin's, which does not decide what a run comes to
        print(f"failed: {own_line(error) or 'a part'} exits the program ({error.code})", file=sys.stderr)
        return FAILED


def _write_anything() -> None:
    """Print escapes for what the terminal's encoding lacks, instead of failing at it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options after a verb, which may be left out; `--check` says the same as `check`."""
    verb = arguments[0] if arguments and arguments[0] in VERBS else None
    parser = _parser()
    options = parser.parse_args(arguments[1:] if verb else arguments)
    options.verb = "check" if options.check else verb or "train"
    if options.resume == "":  # as an empty variable of a script's; to begin anew would move the run aside
        parser.error("--resume names nothing; write a checkpoint's folder, 'auto', or --resume alone for the latest")
    if options.iterations and options.verb != "profile":
        parser.error("--iterations is for 'profile'; write --set train.niter=N")
    if verb in _APPLIED and (options.resume or options.allow_changes or options.check):
        parser.error(f"{verb!r} trains nothing; name weights by path.pretrain_model_<network>, and leave out --resume, "
                     "--allow-changes and --check")  # fmt: skip
    goes_on = options.verb == "train" and not options.show
    if not goes_on and (options.resume or options.allow_changes):
        what = "--show" if options.show else repr(options.verb)
        parser.error(f"{what} goes on with no run; leave out --resume and --allow-changes")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradloom",
        usage=f"gradloom [{' | '.join(VERBS)}] -opt FILE [--set a.b=c ...] [--resume [CHECKPOINT]]",
        description="Train the networks of an options file; check it, try it out in small, or profile it; or write "
        "what they make of datasets ('test') or of a film ('process_video'). `gradloom schema` prints a JSON Schema of "
        "options, for editors.",
    )
    parser.add_argument("-opt", "--opt", type=Path, required=True, metavar="FILE", help="the options file, a YAML")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="a.b=c", help="override options")
    parser.add_argument("--check", action="store_true", help="only say what would go wrong, and what a run takes")
    parser.add_argument("--show", choices=["listing", "graph"], help="only show the plan: as a program, or as Mermaid")
    parser.add_argument("--resume", nargs="?", const=True, default=False, metavar="CHECKPOINT",
                        help="go on from the latest checkpoint, from this, or if there is any ('auto')")  # fmt: skip
    parser.add_argument("--allow-changes", action="store_true",
                        help="resume although networks or steps have changed; take what fits")  # fmt: skip
    parser.add_argument("--iterations", type=_positive, metavar="N", help="how many 'profile' measures; 20 by default")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help=argparse.SUPPRESS)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _schema(arguments: Sequence[str]) -> int:
    """Print the dialect as a JSON Schema, or write it into a file."""
    parser = argparse.ArgumentParser(prog="gradloom schema", description="Print a JSON Schema of options files.")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there instead")
    file = parser.parse_args(arguments).output

    from gradloom.plan.dialect import text

    if file is None:
        print(text(), end="")
        return DONE
    try:
        file.write_text(text(), encoding="utf-8")
    except OSError as error:
        print(f"failed: {file}: {error.strerror}", file=sys.stderr)
        return FAILED
    return DONE


def _cheap(document: Document) -> list[Fault]:
    """What can be found wrong before torch is imported, which takes longer than all of that."""
    faults = list(document.faults)
    sections(document, faults)
    return faults


def _tell(faults: Iterable[Fault], told: Iterable[Fault]) -> list[Fault]:
    """Print faults not told yet, at once."""
    fresh = [fault for fault in in_order(faults) if fault not in set(told)]
    for fault in fresh:
        print(fault, file=sys.stderr, flush=True)
    return [*told, *fresh]


def _refuse(count: int) -> int:
    print(f"{count} {'fault' if count == 1 else 'faults'}; nothing was run", file=sys.stderr)
    return REFUSED


def _refuse_everywhere(options: argparse.Namespace, told: list[Fault]) -> int:
    """Refuse, and let other processes of the same training know, which may have been given something else."""
    if options.verb == "train" and not options.show and os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        from gradloom.engine.start import refuse_everywhere

        refuse_everywhere(told)
    return _refuse(len(told))


def _compile_and_run(document: Document, options: argparse.Namespace, told: list[Fault]) -> int:
    from gradloom.plan.compile import compile
    from gradloom.plan.drawing import listing, mermaid

    try:
        plan = compile(document)
    except OptionsError as error:
        return _refuse_everywhere(options, _tell(error.faults, told))
    for notice in plan.notices:
        print(f"notice: {notice}", file=sys.stderr)
    if options.show:
        print({"listing": listing, "graph": mermaid}[options.show](plan))
        return DONE
    if options.verb not in ("check", *_APPLIED) and not plan.sections.trains and document.root:
        why = "section 'train' is missing; write train: {niter: ...}, or run 'gradloom test', for which it is complete"
        return _refuse(len(_tell([document.root.fault(why)], told)))
    if options.verb == "check":
        return _check(plan, options.opt, told)
    work: dict[str, Callable[[], None]] = {
        "train": lambda: _train(plan, options),
        "smoke": lambda: _smoke(options),
        "profile": lambda: _profile(plan, options),
        "test": lambda: _test(plan),
        "process_video": lambda: _process_video(plan),
    }
    from gradloom.engine.lasting import lasting

    with lasting():
        return _guarded(plan, work[options.verb])


def _check(plan: "Plan", file: Path, told: list[Fault]) -> int:
    """Look ahead, and say what would go wrong or else what the run will take."""
    from gradloom.engine.preflight.applying import look_at_application
    from gradloom.engine.preflight.look import look_ahead
    from gradloom.engine.world import World

    try:
        if plan.application and not plan.sections.trains:
            report = look_at_application(plan, plan.application, plan.application.passes)
        else:
            world = World(plan.sections.gpu_ids)
            report = look_ahead(plan, world.device, processes=world.processes)
    except RunError as error:
        print(f"failed: {error}", file=sys.stderr)
        return FAILED
    for notice in report.notices:
        print(f"notice: {notice}", file=sys.stderr)
    if report.faults:
        return _refuse(len(_tell(report.faults, told)))
    print("\n".join([*report.lines(), f"{file}: no faults"]))
    return DONE


def _train(plan: "Plan", options: argparse.Namespace) -> None:
    from gradloom.engine.farewell import farewell
    from gradloom.engine.fit import fit
    from gradloom.engine.interrupts import Interrupted
    from gradloom.engine.start import start
    from gradloom.engine.trainer import Trainer
    from gradloom.engine.world import World

    world = World(plan.sections.gpu_ids, patience=plan.sections.train.process_timeout)
    try:
        beginning = start(plan, world, options.resume, options.allow_changes)
        with farewell(world):
            fit(Trainer(plan), beginning)
    except (OptionsError, Interrupted, Diverged):  # which all processes come to alike
        world.leave()
        raise
    world.leave()


def _smoke(options: argparse.Namespace) -> None:
    from gradloom.engine.smoke import smoke

    print("\n".join([*smoke(options.opt, options.set), f"{options.opt}: it runs, saves and resumes"]))


def _profile(plan: "Plan", options: argparse.Namespace) -> None:
    from gradloom.engine.profiling import profile

    for line in profile(plan, options.iterations or 20):
        print(line)


def _test(plan: "Plan") -> None:
    from gradloom.engine.testing import test

    test(plan, print)


def _process_video(plan: "Plan") -> None:
    from gradloom.engine.filming import process_video

    process_video(plan, print)


def _leave_at_once() -> None:
    """End as failed, once all is written, without what torch does last: with a process gone it may abort there."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILED)


def _guarded(plan: "Plan", work: Callable[[], None]) -> int:
    """Work, and say how it ended, by words and by the exit code."""
    from gradloom.engine.interrupts import Interrupted

    try:
        work()
    except OptionsError as error:
        return _refuse(len(_tell(error.faults, ())))
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.number
    except Diverged as error:
        print(f"diverged: {plan.document.told(str(error))}", file=sys.stderr)
        return DIVERGED
    except RunError as error:
        print(f"failed: {plan.document.told(str(error))}", file=sys.stderr)
        if isinstance(error, LostTouch):
            atexit.register(_leave_at_once)
        return FAILED
    except Exception as error:
        of_values = bool(places(error)) and not own_line(error) and not is_a_slip(error)
        if of_values and not sys.flags.dev_mode:
            print(f"failed: {plan.document.told('; '.join([in_short(error), *places(error)]))}", file=sys.stderr)
            return FAILED
        if not plan.document.secrets:
            raise
        print(plan.document.told(traceback.format_exc()), file=sys.stderr)
        return FAILED
    return DONE


def console() -> None:
    """Run the command line as an installed program."""
    sys.exit(main())
