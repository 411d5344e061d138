"""The Train tab: a text, a recipe, what it will cost, and the run as it goes."""

import html
import itertools
import threading
import time
from dataclasses import fields, replace
from functools import lru_cache, partial
from pathlib import Path

import gradio as gr

from playground.checkpoint import Beginning, Checkpoint, TrainStep
from playground.config import (
    ACTIVATIONS,
    NORMS,
    OPTIMIZERS,
    POSITIONS,
    PRESETS,
    TOKENIZER_KINDS,
    ModelConfig,
    Recipe,
    TrainConfig,
    for_fine_tuning,
    is_whole,
    memory_bytes,
)
from playground.corpora import BUILT_IN
from playground.corpus import MAX_BYTES, Text, built_in, pasted, read_text, unknown
from playground.errors import BadInput
from playground.learned import Library
from playground.life import MAX_TOKENS
from playground.runs import Progress, Run, past_progress
from playground.tokenizer import visible, without_surrogates
from playground.training import Trainer, estimate_seconds
from playground.ui import compare
from playground.ui.components.downloads import pack_figure
from playground.ui.components.facts import facts, pack_facts
from playground.ui.components.head_life import PLOTTED, head_life, pack_life
from playground.ui.components.loss_chart import loss_chart
from playground.ui.curve import MOST_EVALUATIONS, MOST_STEPS, REACH, smooth, thin
from playground.ui.shown import NO_SUCH_HEAD
from playground.ui.site import QUIET, TOKENIZER_TITLES, Site, Tab, answer, shortened, tell
from playground.workspaces import Host, Workspace, affordable_model

FROM_BUILT_IN, FROM_PASTE, FROM_UPLOAD = "Built-in text", "Paste", "Upload"
CUSTOM = "custom"
MAX_PROBE = 1_000  # characters
SORT_POLL_SECONDS = 0.2  # until a run has its tokenizer
FIRST_PRESET = "small"
PAST = "past:"  # for the chart, in place of a run's id: the history that the model in use brought along

# What each setting is called, and what is usual. The name in brackets is the one in the code and in the field.
HINTS = {
    "tokenizer": "what one token is",
    "tokenizer_vocab_size": "wanted number of tokens, for words and subwords; usually 300 to 4,000",
    "n_layer": "decoder layers, one after the other; usually 2 to 8 here",
    "n_head": "attentions side by side in each layer; must divide the embedding size",
    "n_embd": "numbers that stand for one token; usually 64 to 256 here",
    "block_size": "tokens the model sees at once; usually 32 to 256",
    "dropout": "share of numbers zeroed while training; 0.1 to 0.2 for small texts and long runs",
    "position": "how the model knows the order of tokens",
    "norm": "how each layer's input is brought to one scale",
    "activation": "the curve inside the MLP",
    "qk_norm": "keeps attention scores bounded, so larger learning rates work",
    "bias": "a constant added after each matrix, as in GPT-2",
    "max_iters": "optimisation steps; a few hundred to a few thousand",
    "batch_size": "rows of text in each step; usually 8 to 64",
    "learning_rate": "size of a step: about 0.02 for Muon, 0.001 for Adam; a tenth of that for fine-tuning",
    "min_lr": "where the learning rate ends; it falls in a straight line",
    "warmup_iters": "steps in which the learning rate rises from zero",
    "optimizer": "how gradients become steps",
    "weight_decay": "pull of the matrices towards zero; 0 to 0.1",
    "grad_clip": "longest gradient that is followed as it is; 0 switches clipping off",
    "eval_interval": "steps between two looks at the validation part",
    "seed": "same seed, same run",
}

MEASURING = "Measuring the loss over the whole validation part."
HINTS_BY_STATE = {"running": "Pause to look inside it.", "pausing": MEASURING, "stopping": MEASURING}

STRANGE = (
    "The model’s tokenizer does not know {} of this text’s {} (such as {}): all of them are one and the same token to "
    "it, which is easy to foresee, so the loss will look better than it is. Train a new model on this text, or go on "
    "from one with byte-pair subwords, which know any text."
)
SAME_TEXT = "This is the text that the model has learned from last: it goes on with it, and there is nothing to forget."
STRANGE_SHARE = 0.005  # of a text's tokens from which on they are told of: fewer change the loss less than its estimate
FITTED = ("learning_rate", "min_lr", "eval_interval")  # settings that are other ones for fine-tuning
RUN_SETTINGS = ("dropout", *(f.name for f in fields(TrainConfig)))  # what fine-tuning leaves to choose

REFERENCES = ("uniform", "unigram", "bigram")  # the losses drawn as lines

_sequence = itertools.count(1)


def build(site: Site) -> Tab:
    with gr.Row():
        with gr.Column(scale=2, min_width=320, elem_classes="controls"):
            source = _source_controls()
            text_facts = facts(elem_id="text-facts")
            preset = gr.Radio(
                [(recipe.title, name) for name, recipe in PRESETS.items()] + [("Custom", CUSTOM)],
                value=FIRST_PRESET,
                label="Preset",
                elem_id="preset",
            )
            controls = _recipe_controls(PRESETS[FIRST_PRESET])
            fine_tune = gr.Checkbox(
                label="Fine-tune the model in use",
                info="go on from its weights; its tokenizer and shape stay, and what it forgets is measured",
            )
            probe = gr.Textbox(
                label="Text to watch the heads on",
                info=f"its first {MAX_TOKENS} tokens; if empty, how the validation part begins, twice",
                lines=1,
                max_length=MAX_PROBE,
                elem_id="probe",
            )
            plan_facts = facts(elem_id="plan-facts")
        with gr.Column(scale=3, min_width=320):
            with gr.Row(elem_classes="controls"):
                start = gr.Button("Start training", variant="primary", elem_id="start", min_width=140)
                pause = gr.Button("Pause", interactive=False, elem_id="pause", min_width=80)
                resume = gr.Button("Resume", interactive=False, elem_id="resume", min_width=80)
                stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=80)
            chart = loss_chart(_poll(site), _loss_figure(site), elem_id="chart")
            with gr.Row(visible=False) as rate_row:
                rate = gr.Number(
                    label="Learning rate from now on",
                    info="the next step's; it then falls as the schedule does",
                    elem_id="rate",
                    scale=3,
                )
                change_rate = gr.Button("Change", scale=1, min_width=90, elem_id="change-rate")
            head_life(_life(site), _life_figure(site), _scores_figure(site), elem_id="life")
    table = compare.build(site, controls)

    buttons = [start, pause, resume, stop, rate_row]
    settings = list(controls.values())
    described = [text_facts, plan_facts, *settings]
    inputs = [site.visitor, *source, fine_tune, *settings]
    filled, typed = gr.State(FIRST_PRESET), gr.State(frozenset())  # the preset, and which FITTED a visitor has changed

    def n_own(key) -> int:
        """How many of the runs that share the machine are this visitor's, who starts no other beside them."""
        run = site.workspace(key).active_run
        return int(run is not None and run.state != "paused")

    def plan(key, kind, name, paste, upload, tune, *values):
        """What is known before the start: the text, the cost, and a sentence at each control that cannot stay so."""
        recipe, base = _recipe(dict(zip(controls, values, strict=True))), None
        if tune:
            base = site.workspace(key).current
        problems = recipe.train.problems() if base else recipe.problems()
        controls_now = [_control(name, problems, free=not base or name in RUN_SETTINGS) for name in controls]
        try:
            text = _text(kind, name, paste, upload)
        except BadInput as error:
            given = bool(paste if kind == FROM_PASTE else upload)
            return [pack_facts("", {}, str(error), warning=given), None, *controls_now]
        shown = _describe(text, BUILT_IN[name].look_for if kind == FROM_BUILT_IN else "")
        with site.visit():
            cost = None if problems else _cost(text, recipe, base, site.workspaces.host, n_own(key))
        return [shown, cost, *controls_now]

    # Not `change` of the settings: a preset changes many at once, and of as many answers a stale one may come last.
    # `release` is what a slider's reset button sends.
    touched = [control.input for control in settings]
    touched += [control.release for control in settings if isinstance(control, gr.Slider)]
    planning = {"fn": tell(plan), "inputs": inputs, "outputs": described, "trigger_mode": "always_last", **QUIET}
    planning |= {"concurrency_id": "plan", "concurrency_limit": 1}  # in the order in which they were asked for

    def fit(name, typed, tune, steps):
        """What fine-tuning wants otherwise, or the preset's own again; but nothing that the visitor has typed."""
        config = PRESETS[name].train
        if tune:
            config = for_fine_tuning(replace(config, max_iters=int(steps)) if is_whole(steps) else config)
        return [gr.skip() if setting in typed else getattr(config, setting) for setting in FITTED]

    def fit_interval(name, typed, tune, steps):
        *_, interval = fit(name, typed, tune, steps)
        return interval if tune else gr.skip()

    # Before the plan: a page sends what one input sets off one after the other.
    in_order = {"trigger_mode": "always_last", "concurrency_id": "fit", "concurrency_limit": 1, **QUIET}
    for setting in FITTED:
        controls[setting].input(lambda typed, name=setting: typed | {name}, typed, typed, **in_order)
    known, fitted = [filled, typed, fine_tune, controls["max_iters"]], [controls[setting] for setting in FITTED]
    fine_tune.change(fit, known, fitted, **in_order).success(**planning)
    controls["max_iters"].input(fit_interval, known, controls["eval_interval"], **in_order)
    gr.on([control.change for control in source] + touched, **planning)
    chart.state(**planning)  # when a run begins or ends; and once there is a chart, which comes first

    @tell
    def begin(key, kind, name, paste, upload, tune, *values):
        *values, probe = values
        workspace, recipe = site.workspace(key), _recipe(dict(zip(controls, values, strict=True)))
        recipe = replace(recipe, probe=without_surrogates(probe or "")[:MAX_PROBE])
        base = workspace.current if tune else None
        run = workspace.start(_text(kind, name, paste, upload), recipe, base)
        threading.Thread(target=_sort_ahead, args=(site.library, run), daemon=True).start()
        return [_chart_value(key, workspace, run), recipe.train.learning_rate, *_button_states(workspace)]

    @tell
    def set_rate(key, learning_rate):
        site.workspace(key).set_learning_rate(learning_rate)
        gr.Info(f"The next step is taken with a learning rate of {learning_rate:g}.")

    @tell
    def go_back(key, event: gr.EventData):
        match event._data:
            case {"run": str(run_id), "step": int(step)}:
                checkpoint = site.workspace(key).go_back(run_id, step)
                gr.Info(f"In use now: {html.escape(checkpoint.name)}.")
            case _:
                raise BadInput("The page asked for no step of a run: choose one of the list.")

    def buttons_now(key):
        return _button_states(site.workspace(key))

    start.click(begin, [*inputs, probe], [chart, rate, *buttons], **QUIET)
    for button, method in ((pause, Workspace.pause), (resume, Workspace.resume), (stop, Workspace.stop)):

        @tell
        def order(key, method=method):
            method(site.workspace(key))
            return _button_states(site.workspace(key))

        button.click(order, site.visitor, buttons, queue=False, **QUIET)
    gr.on([change_rate.click, rate.submit], set_rate, [site.visitor, rate], None, **QUIET)

    def fill(name, tune):
        if name not in PRESETS:  # "Custom" is where one arrives by changing a setting; it has no values of its own
            return [gr.skip()] * (2 + len(controls))
        recipe = PRESETS[name]
        values = _values(replace(recipe, train=for_fine_tuning(recipe.train)) if tune else recipe)
        return [name, frozenset(), *(values.get(setting, gr.skip()) for setting in controls)]

    preset.input(fill, [preset, fine_tune], [filled, typed, *settings], queue=False, **QUIET).success(**planning)
    gr.on(touched, lambda: CUSTOM, None, preset, queue=False, **QUIET)
    new_state = chart.state(tell(buttons_now), site.visitor, buttons, queue=False, **QUIET)

    def show(workspace: Workspace, _: Checkpoint, key):
        run = workspace.active_run
        return [
            _chart_value(key, workspace),
            _short(run.learning_rate) if run else None,
            *_button_states(workspace),
            key,
        ]

    went_back = chart.back(go_back, site.visitor, None, **QUIET)
    went_back.success(**planning)  # which says what fine-tuning would go on from
    return Tab([site.visitor], [chart, rate, *buttons, table], show, [new_state, went_back])


def _source_controls() -> list[gr.components.Component]:
    kind = gr.Radio([FROM_BUILT_IN, FROM_PASTE, FROM_UPLOAD], value=FROM_BUILT_IN, label="Text", elem_id="source")
    corpus = gr.Dropdown(
        [(corpus.title, name) for name, corpus in BUILT_IN.items()],
        value=next(iter(BUILT_IN)),
        label="Built-in text",
        elem_id="built-in",
    )
    paste = gr.Textbox(label="Your text", lines=8, max_lines=12, visible=False, elem_id="paste")
    upload = gr.File(label=f"Text file, at most {MAX_BYTES // 2**20} MB", visible=False, height=150, elem_id="upload")
    shown = {FROM_BUILT_IN: corpus, FROM_PASTE: paste, FROM_UPLOAD: upload}
    kind.change(
        lambda chosen: [gr.update(visible=chosen == name) for name in shown],
        kind,
        list(shown.values()),
        queue=False,
        **QUIET,
    )
    return [kind, corpus, paste, upload]


def _recipe_controls(first: Recipe) -> dict[str, gr.components.Component]:
    """A control for each setting of a recipe, by the setting's name, in the order in which they stand on the page."""
    values, made = _values(first), {}

    def add(name: str, control: type, label: str, **kwargs) -> None:
        if name in ("n_layer", "n_head", "n_embd", "block_size", "qk_norm", "max_iters", "min_lr", "warmup_iters"):
            label = f"{label} ({name})"  # the field's own name, where it is another
        made[name] = control(value=values[name], label=label, info=HINTS[name], elem_id=name, **kwargs)

    def number(name: str, label: str, **kwargs) -> None:
        add(name, gr.Number, label, **kwargs)

    add(
        "tokenizer",
        gr.Radio,
        "Tokenizer",
        choices=[(TOKENIZER_TITLES[kind], kind) for kind in TOKENIZER_KINDS],
    )
    with gr.Accordion("Model settings", open=False, elem_id="model-settings"):
        number("tokenizer_vocab_size", "Vocabulary size", precision=0)
        add("n_layer", gr.Slider, "Layers", minimum=1, maximum=12, step=1)
        add("n_head", gr.Slider, "Heads", minimum=1, maximum=16, step=1)
        add("n_embd", gr.Slider, "Embedding size, d_model", minimum=8, maximum=512, step=8)
        add("block_size", gr.Slider, "Context length", minimum=8, maximum=256, step=8)
        add("position", gr.Radio, "Positions", choices=[(p.capitalize(), p) for p in POSITIONS])
        add("norm", gr.Radio, "Normalisation", choices=list(zip(("LayerNorm", "RMSNorm"), NORMS, strict=True)))
        activations = ("GELU", "Squared ReLU", "SwiGLU")
        add("activation", gr.Radio, "Activation", choices=list(zip(activations, ACTIVATIONS, strict=True)))
        with gr.Row():
            add("qk_norm", gr.Checkbox, "Normalise queries and keys", min_width=140)
            add("bias", gr.Checkbox, "Biases", min_width=140)
        add("dropout", gr.Slider, "Dropout", minimum=0, maximum=0.9, step=0.05)
    with gr.Accordion("Training settings", open=False, elem_id="training-settings"):
        add("optimizer", gr.Radio, "Optimizer", choices=list(zip(("Adam", "AdamW", "Muon"), OPTIMIZERS, strict=True)))
        for row in (
            {"max_iters": "Steps", "batch_size": "Batch size"},
            {"learning_rate": "Learning rate", "min_lr": "Last learning rate"},
            {"warmup_iters": "Warm-up steps", "weight_decay": "Weight decay"},
            {"grad_clip": "Gradient clipping", "eval_interval": "Evaluate every"},
        ):
            with gr.Row():
                for name, label in row.items():
                    whole = {"precision": 0} if isinstance(values[name], int) else {}
                    number(name, label, min_width=140, **whole)
        number("seed", "Seed", precision=0)
    return made


def _values(recipe: Recipe) -> dict[str, object]:
    """A recipe as the values of its controls; the vocabulary size of the model is no setting, the text decides it."""
    own = {"tokenizer": recipe.tokenizer, "tokenizer_vocab_size": recipe.tokenizer_vocab_size}
    return own | vars(recipe.model) | vars(recipe.train)


def _recipe(values: dict[str, object]) -> Recipe:
    def config(cls: type):
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    return Recipe(
        "Custom", values["tokenizer"], values["tokenizer_vocab_size"], config(ModelConfig), config(TrainConfig)
    )


def _control(name: str, problems: dict[str, str], free: bool) -> dict:
    """A control as it should look now: its problem in place of its hint, and hidden where it would change nothing."""
    problem = problems.get(name)
    return gr.update(
        info=f"⚠ {problem}" if problem else HINTS[name],
        elem_classes=["problem"] if problem else [],
        visible=free,
    )


def _text(kind: str, name: str, paste: str, upload: str | None) -> Text:
    if kind == FROM_PASTE:
        return pasted(paste)
    if kind == FROM_UPLOAD:
        if not upload:
            raise BadInput("Choose a text file first.")
        return _uploaded(upload)
    return built_in(str(name))  # which Gradio lets be a list as well


@lru_cache(maxsize=4)
def _uploaded(path: str) -> Text:
    return read_text(Path(path))


def _describe(text: Text, look_for: str) -> dict:
    figures = {"characters": f"{len(text.text):,}", "distinct": f"{len(set(text.text)):,}"}
    return pack_facts(text.name, figures, " ".join(filter(None, (text.note, look_for))))


def _cost(text: Text, recipe: Recipe, base: Checkpoint | None, host: Host, n_own: int = 0) -> dict:
    try:
        model = affordable_model(text, recipe, base, host.settings)
    except BadInput as error:
        return pack_facts("Before you start", {}, str(error), warning=True)
    train = recipe.train
    others = max(0, host.engine.n_jobs - n_own)
    alone = estimate_seconds(model, train, host.engine.beside)
    seconds = alone * max(1.0, (others + 1) / host.engine.n_workers)
    own = {"goes on from": base.name, "tokenizer": TOKENIZER_TITLES[base.tokenizer.kind]} if base else {}
    return pack_facts(
        "Before you start",
        own
        | {
            "parameters": f"{model.n_params:,}",
            "memory": f"about {max(1, memory_bytes(model, train) // 2**20):,} MB",
            "time": f"about {duration(seconds)}" + (f", shared with {count(others, 'other')}" if others else ""),
            "tokens to see": f"{train.max_iters * train.batch_size * model.block_size:,}",
        },
        **(_fitness(text, base) if base else {}),
    )


def _fitness(text: Text, base: Checkpoint) -> dict:
    """What one should know of a text before a model is fine-tuned on it, as `pack_facts` takes it."""
    strange = unknown(text, base.tokenizer)
    if strange.share >= STRANGE_SHARE:
        pieces = {"char": "characters", "word": "words"}[base.tokenizer.kind]
        examples = ", ".join(f"“{visible(piece)}”" for piece in strange.examples)
        return {"note": STRANGE.format(_percent(strange.share), pieces, examples), "warning": True}
    return {"note": SAME_TEXT if base.learned_last_from(text.sha256) else ""}


def _percent(share: float) -> str:
    """
    >>> _percent(0.3441), _percent(0.0062)
    ('34 %', '0.6 %')
    """
    return f"{share:.0%}".replace("%", " %") if share >= 0.01 else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """
    >>> duration(42), duration(150), duration(7_500)
    ('42 s', '2 min 30 s', '2 h 5 min')
    """
    seconds = max(1, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def count(n: int, what: str) -> str:
    """
    >>> count(1, "other"), count(3, "other")
    ('1 other', '3 others')
    """
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _sort_ahead(library: Library, run: Run) -> None:
    """Sorts the text of a run while it trains, for the figures beside the model: of 10 MB that takes five seconds."""
    while run.active:
        if trainer := run.trainer:  # whose tokenizer may first have to be learned
            library.get(run.text, trainer.tokenizer)
            return
        time.sleep(SORT_POLL_SECONDS)


def _button_states(workspace: Workspace) -> list:
    """Start, Pause, Resume, Stop and the row of the learning rate: what the visitor's run allows now."""
    run = workspace.active_run
    state = run.state if run else "none"
    return [
        gr.update(interactive=state == "none"),
        gr.update(interactive=state in ("starting", "running")),
        gr.update(interactive=state in ("pausing", "paused")),
        gr.update(interactive=state not in ("none", "stopping")),
        gr.update(visible=state in ("running", "pausing", "paused")),
    ]


def _chart_value(key: str, workspace: Workspace, begun: Run | None = None) -> dict:
    """The run just begun, which may have failed already; else the one that is going; else the past of the model in use,
    from the run that made it if that was here.
    """
    (current, version), runs = workspace.in_use, list(workspace.runs.values())
    shown = begun or workspace.active_run or workspace.maker(current)
    made_by, step = workspace.point_of(current)
    return {
        "visitor": key,
        "run": shown.id if shown else f"{PAST}{version}",
        "name": shown.name if shown else current.name,
        "shipped": current.name if not shown and workspace.ships(current) else None,
        "in_use": step if shown and shown.id == made_by else None,
        "others": [{"run": run.id, "name": run.name} for run in runs if not run.active and run is not shown],
        "n_runs": len(runs),
        "seq": next(_sequence),
    }


def _run(workspace: Workspace, run_id: str) -> Run | None:
    """The run that a chart shows; None if it shows the past of the model in use."""
    return None if run_id.startswith(PAST) else workspace.run(run_id)


def _poll(site: Site):
    @answer(str, str, int)
    def poll(key, run_id, cursor):
        try:
            workspace = site.workspace(key)
            run = _run(workspace, run_id)
            progress_since = run.progress if run else partial(past_progress, workspace.current)
            reply = _points(progress_since(cursor - REACH), max(0, cursor))
        except BadInput as error:
            reply = {"state": "gone", "message": str(error)}
        return {"server": site.server, **reply}

    return poll


def _loss_figure(site: Site):
    @answer(str, str, str)
    def figure(key, run_id, kind):
        workspace = site.workspace(key)
        run = _run(workspace, run_id)
        seen = (run.trainer or run.past) if run else workspace.current
        name = run.name if run else seen.name
        caption = f"{name}, step {len(seen.history):,}"
        curves = seen.history, seen.references, caption, seen.beginning
        return pack_figure("loss", kind, lambda figures: figures.loss_figure(*curves))

    return figure


def _learning(workspace: Workspace, run_id: str) -> tuple[str, Trainer | Checkpoint | None]:
    """The name of a run, and what has its snapshots: its trainer, later its checkpoint; None as long as it begins."""
    run = _run(workspace, run_id)
    if not run:
        return workspace.current.name, workspace.current
    if run.trainer or run.name not in workspace.names:
        return run.name, run.trainer
    return run.name, workspace.listed(run.name)


def _life(site: Site):
    @answer(str, str, int)
    def life(key, run_id, step):
        _, seen = _learning(site.workspace(key), run_id)
        if not (seen and seen.life):
            return {}
        later = [due for due in seen.snapshot_steps if due >= seen.n_steps] if isinstance(seen, Trainer) else []
        return pack_life(seen.life.after(step), seen.tokenizer.token_text, later[0] if later else None)

    return life


def _life_figure(site: Site):
    @answer(str, str, int, str)
    def figure(key, run_id, step, kind):
        name, seen = _learning(site.workspace(key), run_id)
        if not (seen and seen.life and step in seen.life.steps):
            raise BadInput("There is no picture of the heads at this step: choose one with the slider.")
        life = seen.life
        caption = f"{name}, step {step:,}, “{shortened(seen.tokenizer.decode(list(life.ids)))}”"
        i = life.steps.index(step)
        return pack_figure(f"heads-step{step}", kind, lambda figures: figures.life_figure(life, i, caption))

    return figure


def _scores_figure(site: Site):
    @answer(str, str, str, int, int, str)
    def scores(key, run_id, score, layer, head, kind):
        name, seen = _learning(site.workspace(key), run_id)
        life = seen and seen.life
        if not (life and life.steps and score in PLOTTED):
            raise BadInput("There are no scores of the heads to draw: train a model first.")
        n_layer, n_head = life.attention.shape[1:3]
        if not (0 <= layer < n_layer and 0 <= head < n_head):
            raise BadInput(NO_SUCH_HEAD)
        caption = f"{name}, step {life.steps[-1]:,}"
        place = f"layer{layer + 1}-head{head + 1}"
        return pack_figure(
            f"{score}-{place}", kind, lambda figures: figures.scores_figure(life, score, layer, head, caption)
        )

    return scores


def _short(number: float | None) -> float | None:
    """
    >>> _short(0.019039999999999998)
    0.019
    """
    return number and float(f"{number:.3g}")


def _message(progress: Progress) -> str:
    """
    >>> _message(Progress("a", "running", 3, 9, 0, [], 1.0, 1.0, 2.0, others=3))
    'Pause to look inside it. Sharing this machine with 3 others.'
    """
    sharing = f"Sharing this machine with {count(progress.others, 'other')}." if progress.others else ""
    hint = HINTS_BY_STATE.get(progress.state, "")
    return " ".join(filter(None, (progress.message or hint, sharing)))


def _points(progress: Progress, cursor: int) -> dict:
    """What is new in a run since a cursor, as the chart reads it. The progress may begin some steps before."""
    cursor = min(cursor, progress.step)
    n_known = cursor - progress.cursor
    averages = smooth([step.train_loss for step in progress.steps], progress.cursor)
    steps = list(zip(progress.steps, averages, strict=True))[n_known:]
    evaluated = [step for step in progress.steps[n_known:] if step.val_loss is not None]
    steps = thin(steps, [step.train_loss for step, _ in steps], MOST_STEPS)
    evaluated = thin(evaluated, [step.val_loss for step in evaluated], MOST_EVALUATIONS)
    references, beginning = progress.references, progress.beginning
    before = [_evaluation(0, beginning)] if beginning and cursor == 0 else []
    return {
        "name": progress.name,
        "state": progress.state,
        "message": _message(progress),
        "step": progress.step,
        "max_iters": progress.max_iters,
        "cursor": cursor,
        "train": [[s.step, s.train_loss, s.learning_rate, s.grad_norm, average] for s, average in steps],
        "val": before + [_evaluation(step.step, step) for step in evaluated],
        "text": progress.text,
        "first_text": beginning and beginning.first_text,
        "points": [list(vars(point).values()) for point in progress.points],
        "points_note": progress.points_note,
        "tokens_per_second": progress.tokens_per_second,
        "seconds": progress.seconds,
        "seconds_left": progress.seconds_left,
        "references": {name: getattr(references, name) for name in REFERENCES} if references else None,
        "final_loss": progress.final_loss,
        "val_tokens": references.n_tokens if references else None,
        "n_unknown": references.n_unknown if references else 0,
        "first_final_loss": progress.first_final_loss,
    }


def _evaluation(step: int, seen: TrainStep | Beginning) -> list:
    return [step, seen.val_loss, seen.sample, seen.first_val_loss]
