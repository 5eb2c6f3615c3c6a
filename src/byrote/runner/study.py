"""A whole study: every cell, the learning rates it needs, the base model, and then the results."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from byrote.attacks.base import Attack
from byrote.methods.base import Method
from byrote.objectives.batching import out_of_memory
from byrote.registry import Component
from byrote.report.axes import AXES, VariedResults
from byrote.report.exposed import keep_texts
from byrote.report.results import Results
from byrote.report.write import write_report
from byrote.runner import tables
from byrote.runner.context import Context, Given
from byrote.runner.controls import blind_attacks, positive_control
from byrote.runner.extraction import measure_records
from byrote.runner.generations import cut_off
from byrote.runner.in_context import run_of
from byrote.runner.manifest import manifest_of
from byrote.runner.method_run import MethodRun, named, wanted_of
from byrote.runner.one import BaseRun, Run, Wanted
from byrote.runner.progress import Progress
from byrote.runner.rates import best_rate, beyond, next_rate, trial_part
from byrote.runner.scores import ensure_blind, ensure_poisoning, ensure_scores, ensure_utility
from byrote.runner.witness import ShadowRun, witnesses_of
from byrote.store import HELD, Cell, Locked, Store, Trial, sweep
from byrote.study import Study, VariedStudy, load
from byrote.study.fields import Part
from byrote.study.model import TRAINING_OF, trains
from byrote.study.privacy import PrivacyLevel, label_of, settings_of
from byrote.types import ByroteError, Diverged, Query, Record, Splits, StudyError

SPLITS, ERRORS = "splits.parquet", "errors.txt"


def default_folder(name: str) -> Path:
    """Where the results of a study go when nobody says."""
    # Not every system takes every character, and "." and ".." are other folders.
    return Path("byrote-results") / (re.sub(r'[<>:"|?*]', "-", name).strip(" .") or "study")


def run(
    study: str | Path | Study | VariedStudy,
    out: str | Path | None = None,
    store: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
    jobs: int = 1,
    show_text: bool = False,
) -> Results | VariedResults:
    """Do what a study asks and return its results: what `byrote run` does.

    `study` is a file, the name of a shipped study, or a Study (whose paths are then relative to the working folder).
    `out` takes the report and the tables (default: byrote-results/NAME), `store` the runs (default: `out`/runs).
    `settings` are "key=value" overrides. Work that is in the store already is not done again. A cell that fails is
    recorded in `results.failed` and the others go on. `show_text` puts texts of the most exposed records on the report.
    `jobs` processes train at once, each with its share of the threads. Raises StudyError.
    """
    from byrote.runner.axes import run_points
    from byrote.runner.tracking import check, report_to
    from byrote.runner.workers import share_of_threads

    if jobs < 1:
        raise StudyError(f"jobs: {jobs} processes can do nothing; give 1 or more")
    folder = Path()
    if not isinstance(study, Study | VariedStudy):
        study, folder = load(study, list(settings))
    place = Path(out) if out is not None else default_folder(study.name)
    trackers = check((study.points[0].study if isinstance(study, VariedStudy) else study).report_to)
    runs, progress = Store(Path(store) if store is not None else place / "runs"), progress or Progress()
    with share_of_threads(jobs):
        if isinstance(study, VariedStudy):
            results: Results | VariedResults = run_points(study, folder, place, runs, progress, jobs, show_text)
        else:
            if (place / AXES).is_file():  # of an earlier study in this folder, which varied something
                (place / AXES).unlink()
            results = StudyRun(study, folder, place, runs, progress).do(jobs, show_text)
    report_to(trackers, results, place, progress, show_text)
    return results


class StudyRun:
    """One pass over a study's cells."""

    def __init__(
        self, study: Study, folder: Path, out: Path, store: Store, progress: Progress, given: Given | None = None
    ) -> None:
        self.study, self.folder, self.out, self.progress = study, folder, out, progress
        self.context = Context(study, folder, store, progress, given)
        self.base = BaseRun(self.context, self.context.base())
        self.cells: list[Cell] = []
        self.control: Cell | None = None
        self.controls = blind_attacks() if study.attacks_of("membership") else []
        self.worked = 0
        self.warned: list[str] = []
        self.beside_others = False
        """Whether a cell of which another process holds a run is no failure, because it is done again later."""

    def do(self, jobs: int = 1, show_text: bool = False) -> Results:
        """Every cell, then the report."""
        from byrote.runner.plan import expectation

        study, progress = self.study, self.progress
        planned = list(study.cells())
        splits = {seed: self.context.splits(seed) for seed in study.seeds}
        sweep(self.out)
        tables.write_splits(self.out / SPLITS, splits)
        (self.out / ERRORS).unlink(missing_ok=True)
        if self.context.given is None and (expected := expectation(self.context)):
            progress.expect(expected)
        self._of_no_method(splits)
        manifest_of(self, splits).write(self.out)
        self.control = positive_control(self)
        manifest_of(self, splits).write(self.out)
        self._all_cells(splits, self._by_workers(splits, jobs) if jobs > 1 else {})
        progress.runs(len(planned), len(planned))
        progress.finish()
        if not self.worked and all(cell.status == "done" for cell in self.cells):
            progress.say("Everything was in the store already: nothing was trained and nothing scored.")
        results = Results.read(self.out)
        keep_texts(results, self.out, [part.members for part in splits.values()] if show_text else None)
        write_report(results, self.out, show_text)
        return results

    def _all_cells(self, splits: dict[int, Splits], answered: dict[int, Cell]) -> None:
        """Those that are not answered yet, in their order; what another process holds comes last, once more."""
        planned, before = list(self.study.cells()), list(self.cells)
        for self.beside_others in (True, False):
            for number, (method, privacy, seed) in enumerate(planned):
                if number not in answered:
                    self.progress.runs(len(answered), len(planned))
                    with contextlib.suppress(Locked):
                        answered[number] = self.cell(method, privacy, seed, splits[seed])
                    self.cells = before + [answered[at] for at in sorted(answered)]
                    manifest_of(self, splits).write(self.out)

    def _of_no_method(self, splits: dict[int, Splits]) -> None:
        """The untuned model, and the attacks that read none."""
        try:
            if self.study.untuned:
                self._ask_base(splits)
            for seed in splits:
                self._blind(seed)
                if self.study.untuned:
                    self._base_cell(seed)
        except Locked as error:
            raise Locked(f"everything is compared with the untuned model, but {error}") from None

    def _blind(self, seed: int) -> None:
        try:
            self.worked += ensure_blind(self.context, self.controls, seed)
        except Locked:
            self.warned.append(f"The attacks that read no model were not made (seed {seed}): {HELD}.")

    def _ask_base(self, splits: dict[int, Splits]) -> None:
        """The untuned model's answers to everything that is asked in any seed: all else is compared with them."""
        everything = tuple({record.id: record for part in splits.values() for record in part.all()}.values())
        prompts = {record.id: record for part in splits.values() for record in part.test}
        context = self.context
        scored = [record for part in splits.values() for record in part.members + part.nonmembers]
        self.worked += self.base.ensure_neighbours(scored, context.neighbours_read)
        wanted = Wanted(
            everything,
            tuple(prompts.values()),
            queries=[query for number in splits for query in context.queries(number)],
            openings=[opening for number in splits for opening in context.openings(number)],
            gradients=[record for number in splits for record in context.gradients(number)],
            chances=[one for number in splits for one in context.chances(number)],
        )
        self.worked += self.base.ensure(wanted)

    def _base_cell(self, seed: int) -> None:
        self._score(self.base, seed, range(1), self.study.attacks_of("membership"))
        self._poisoning(self.base, self.context.mislabelled(seed), range(1))
        self.cells.append(Cell(method="none", family="none", seed=seed, run_id=self.base.id, base_run_id=self.base.id))

    def _by_workers(self, splits: dict[int, Splits], jobs: int) -> dict[int, Cell]:
        """The cells that worker processes finished, by their number; each stands in the manifest at once."""
        from byrote.runner.workers import work

        base, answered = list(self.cells), dict[int, Cell]()

        def keep(number: int, cell: Cell, worked: int) -> None:
            answered[number] = cell
            self.worked += worked
            self.cells = base + [answered[at] for at in sorted(answered)]
            manifest_of(self, splits).write(self.out)

        work(self, jobs, keep)
        self.cells = base
        return answered

    def cell(self, method: Component, privacy: PrivacyLevel, seed: int, splits: Splits) -> Cell:
        """One cell, whatever happens in it. Raises Locked where another process holds a run, and it is done again."""
        assert isinstance(method, Method)
        cell = Cell(
            method=method.name,
            family=method.family,
            settings=settings_of(method.settings(), privacy),
            privacy=label_of(privacy),
            delta=None if privacy == "none" else privacy.delta_of(self.study.trained_members),
            seed=seed,
            run_id="",
            base_run_id=self.base.id if self.study.untuned else "",
        )
        try:
            return self._answer(cell, method, privacy, splits)
        except ByroteError as error:
            if isinstance(error, Locked) and self.beside_others:
                raise
            message = str(error)
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            if out_of_memory(error):
                message = f"out of memory: use a smaller model, or a method with fewer trainable weights ({said})"
            else:
                message = f"{said} (a fault of byrote, see {ERRORS})"
            with (self.out / ERRORS).open("a", encoding="utf-8") as file:
                file.write(f"{method.name} {method.settings()} seed {seed}\n{traceback.format_exc()}\n")
        self.progress.say(f"{named(method)} (seed {seed}) failed: {message}")
        return cell.model_copy(update={"status": "failed", "error": message})

    def _answer(self, cell: Cell, method: Method, privacy: PrivacyLevel, splits: Splits) -> Cell:
        study = self.study
        rates = study.rates(method, privacy)
        tried = self._try_rates(method, privacy, cell, splits, rates) if len(rates) > 1 else []
        rate = best_rate(tried) if tried else rates[0]
        answer = self._trained(method, privacy, cell.seed, rate)
        found = {
            "run_id": answer.id,
            "family": answer.family,
            "learning_rate": rate if trains(method) else None,
            "tried": tried,
        }
        cell = cell.model_copy(update=found)
        self.worked += answer.ensure(splits, wanted_of(self.context, method, cell.seed))
        history = answer.history()
        shadows, failed = self._shadows(method, privacy, splits, cell.seed, rate)
        # Reasons are kept like scores: where shadows are to be tried again, their attacks wait for them.
        attacks = [one for one in study.attacks_of("membership") if not failed or one.trainings <= len(shadows)]
        self._score(answer, cell.seed, range(1, history["epochs"] + 1), attacks, shadows)
        self._poisoning(answer, self.context.mislabelled(cell.seed), range(1, history["epochs"] + 1))
        notes = [*history["notes"], *cut_off(answer, history["epochs"], splits.test)]
        nulls, missing = self._nulls(method, privacy, cell.seed, rate)
        if history["stopped_early"]:
            notes.append(f"Stopped early after epoch {history['epochs']}: the validation loss no longer fell.")
        if beyond(tried) is not None:
            edge = "lowest" if rate == min(trial.learning_rate for trial in tried) else "highest"
            notes.append(f"The best learning rate, {rate:g}, is the {edge} one tried: one beyond it may do better.")
        shadow_ids = [shadow.run.id for shadow in shadows]
        return cell.model_copy(update={"notes": notes + missing + failed, "nulls": nulls, "shadows": shadow_ids})

    def _nulls(self, method: Method, privacy: PrivacyLevel, seed: int, rate: float) -> tuple[dict[str, str], list[str]]:
        """Runs that cannot have learned the wrong labels, judged on the mislabelled records; and what failed."""
        found: dict[str, str] = {}
        failed: list[str] = []
        mislabelled = self.context.mislabelled(seed)
        for null in self.study.nulls if self.study.attacks_of("poisoning") else ():
            run = self._trained(method, privacy, seed, rate, TRAINING_OF[null], said=f", {null} null")
            try:
                self.worked += run.ensure(self.context.splits(seed), Wanted(mislabelled))
            except Exception as error:
                failed.append(f"The null {null} could not be trained: {self._beside(error)}")
                continue
            epochs = range(1, run.history()["epochs"] + 1)
            self._poisoning(run, mislabelled, epochs)
            if null == "rightly-labelled":  # what it makes of the true labels says what the mirrored AUC would be
                self._poisoning(run, [record.rightly_labelled for record in mislabelled], epochs)
            found[null] = run.id
        return found, failed

    def _beside(self, error: Exception) -> str:
        """What is noted of a failure beside a cell that is itself finished, and stays so.

        Raises Locked where the cell is done again later.
        """
        if isinstance(error, Locked) and self.beside_others:
            raise error
        said = str(error) if isinstance(error, ByroteError) else f"{type(error).__name__}: {error}"
        return HELD if isinstance(error, Locked) else " ".join(said.split())

    def _shadows(
        self, method: Method, privacy: PrivacyLevel, splits: Splits, seed: int, rate: float
    ) -> tuple[list[ShadowRun], list[str]]:
        """The shadow models that the study's attacks need, trained as the target was; and what failed."""
        found: list[ShadowRun] = []
        records = [Query(record) for record in splits.all()]
        for number in range(1, self.study.shadows_of(method) + 1):
            run = self._trained(method, privacy, seed, rate, said=f", shadow {number}", shadow=number)
            try:
                self.worked += run.ensure(splits, Wanted(queries=records))
            except Exception as error:
                return found, [f"Shadow model {number} could not be trained: {self._beside(error)}"]
            found.append(ShadowRun(run, frozenset(record.id for record in run.records(splits))))
        return found, []

    def _score(
        self, run: Run, seed: int, epochs: range, attacks: Sequence[Attack], shadows: Sequence[ShadowRun] = ()
    ) -> None:
        splits = self.context.splits(seed)
        sides = splits.members, splits.nonmembers
        witnesses = witnesses_of(run, self.base, epochs, self.context.background(seed), shadows, sum(sides, ()))
        self.worked += ensure_scores(attacks, splits, witnesses)
        self.worked += ensure_utility(self.study.utility, splits.test, witnesses)  # type: ignore[arg-type]
        self.worked += measure_records(self.study.attacks_of("extraction"), sides, witnesses, seed)

    def _poisoning(self, run: Run, records: Sequence[Record], epochs: range) -> None:
        self.worked += ensure_poisoning(run, self.study.attacks_of("poisoning"), records, epochs)

    def _trained(
        self,
        method: Method,
        privacy: PrivacyLevel,
        seed: int,
        rate: float,
        trains_on: Part = "members",
        *,
        said: str = "",
        shadow: int | None = None,
    ) -> MethodRun:
        experiment = self.context.experiment(method, privacy, seed, rate, trains_on, shadow)
        level = "" if privacy == "none" else f", {privacy.named()}"
        label = f"{named(method)}{level}{said}"
        return run_of(
            self.context, experiment, method, label + (f" (seed {seed})" if len(self.study.seeds) > 1 else "")
        )

    def _try_rates(
        self, method: Method, privacy: PrivacyLevel, cell: Cell, splits: Splits, rates: Sequence[float]
    ) -> list[Trial]:
        """Train at each rate; the validation records, which no attack sees, decide.

        Where the best rate is the lowest or the highest, one beyond it is tried too, at most twice.
        A rate that diverges is out. Any other failure is the cell's: no rate is passed over because the disk was full.
        """
        trials: list[Trial] = []
        while (rate := next_rate(trials, rates)) is not None:
            part, said = trial_part(privacy), f" at rate {rate:g}"
            trials.append(self._try_rate(self._trained(method, privacy, cell.seed, rate, part, said=said), splits))
        if all(trial.validation_loss is None for trial in trials):
            raise ByroteError(f"no learning rate worked; at {rates[0]:g}: {trials[0].error}")
        return trials

    def _try_rate(self, run: MethodRun, splits: Splits) -> Trial:
        trial = Trial(learning_rate=run.experiment.learning_rate, run_id=run.id, validation_loss=None)
        try:
            self.worked += run.ensure(splits, Wanted(splits.validation))
            return trial.model_copy(update={"validation_loss": run.history()["validation"][-1]["loss"]})
        except Diverged as error:
            return trial.model_copy(update={"error": str(error)})
