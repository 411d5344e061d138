"""The Checkpoints tab: which models there are, what they are, and how they come and go."""

from pathlib import Path

import gradio as gr

from playground.checkpoint import MAX_NAME, Checkpoint, from_bytes, to_bytes
from playground.config import BYTES_PER_FLOAT
from playground.errors import BadInput
from playground.export import export_zip
from playground.hub import checked_id, fetch
from playground.interop import open_folder
from playground.ui.components.downloads import downloads, pack_file
from playground.ui.components.facts import facts, pack_facts
from playground.ui.site import QUIET, TOKENIZER_TITLES, Site, Tab, answer, tell
from playground.workspaces import Workspace

MB = 2**20
MAX_ID = 96  # characters, as the Hub has it
DOWNLOADS = {"safetensors": "Download this checkpoint", "zip": "Download for Hugging Face"}


def build(site: Site) -> Tab:
    settings = site.workspaces.settings
    upload_mb = settings.upload_mb
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            chosen = gr.Radio(label="Your checkpoints", elem_id="checkpoints")
            use = gr.Button("Use this checkpoint", variant="primary", elem_id="use")
            upload = gr.UploadButton(
                f"Upload a checkpoint (.safetensors, at most {upload_mb} MB)",
                variant="secondary",
                elem_id="upload-checkpoint",
            )
            gr.Markdown(
                "**In Hugging Face's format:** all files of a model that was downloaded here for Hugging Face, or a "
                "GPT-2 made elsewhere: its config.json, model.safetensors and tokenizer.json (or vocab.json and "
                "merges.txt) together"
            )
            gpt2_files = gr.UploadButton(
                f"Upload a model's files (at most {upload_mb} MB)",
                file_count="multiple",
                variant="secondary",
                elem_id="upload-gpt2",
            )
            if settings.hub_mb:
                model_id = gr.Textbox(
                    label="or fetch one from the Hugging Face Hub by its id",
                    placeholder="openai-community/gpt2",
                    max_length=MAX_ID,
                    submit_btn="Open",
                    elem_id="model-id",
                )
        with gr.Column(scale=3, min_width=320):
            about = facts(elem_id="checkpoint-facts")
            download = downloads(_checkpoint_file(site), DOWNLOADS, elem_id="download")
            name = gr.Textbox(
                label="Keep a copy of the model in use under a name",
                max_length=MAX_NAME,
                submit_btn="Save",
                elem_id="name",
            )

    @tell
    def take(key, name):
        site.workspace(key).use(name)

    @tell
    def save_as(key, name):
        site.workspace(key).save_as(name)
        return ""

    @tell
    def add(key, path):
        site.workspace(key).add(_uploaded(path, upload_mb))

    @tell
    def add_gpt2(key, paths):
        site.workspace(key).add(_uploaded_gpt2(paths, upload_mb))

    @tell
    def add_from_hub(key, model_id, progress=gr.Progress()):  # noqa: B008 - how Gradio is asked for one
        workspace = site.workspace(key)
        with site.workspaces.scratch() as folder:
            for fetched in fetch(model_id, folder, settings.hub_mb):
                progress((fetched.done // MB, fetched.total // MB), "Fetching", unit="MB")
            progress(1.0, "Opening")
            workspace.add(open_folder(folder.iterdir(), checked_id(model_id).rpartition("/")[-1]))
        return ""

    @tell
    def describe(key, name):
        return [describe_fully(site.workspace(key).listed(name)), [key, name]]

    chosen.input(describe, [site.visitor, chosen], [about, download], queue=False, **QUIET)
    changes = [
        use.click(take, [site.visitor, chosen], None, **QUIET),
        name.submit(save_as, [site.visitor, name], name, **QUIET),
        upload.upload(add, [site.visitor, upload], None, **QUIET),
        gpt2_files.upload(add_gpt2, [site.visitor, gpt2_files], None, **QUIET),
    ]
    if settings.hub_mb:
        # One at a time: each takes as much memory as the model has, several times over.
        one = QUIET | {"show_progress": "full", "concurrency_limit": 1}
        changes.append(model_id.submit(add_from_hub, [site.visitor, model_id], model_id, **one))

    def show(workspace: Workspace, checkpoint: Checkpoint, key):
        choices = [(f"{name} (in use)" if name == checkpoint.name else name, name) for name in workspace.names]
        listed = gr.update(choices=choices, value=checkpoint.name)
        return [listed, describe_fully(checkpoint), [key, checkpoint.name]]

    return Tab([site.visitor], [chosen, about, download], show, changes)


def describe_briefly(checkpoint: Checkpoint) -> dict:
    """The line at the head of the page. Steps and loss are those on the text that it was trained on last."""
    return pack_facts(
        "",
        {
            "Model in use": checkpoint.name,
            "parameters": f"{checkpoint.config.n_params:,}",
            "trained on": checkpoint.provenance[-1].name if checkpoint.provenance else "unknown",
            "steps": f"{checkpoint.step:,}",
            "validation loss": _loss(checkpoint),
        },
    )


def _loss(checkpoint: Checkpoint) -> str:
    """Over the whole validation part; of what a run was on its way there is an estimate."""
    if checkpoint.val_loss is not None:
        return f"{checkpoint.val_loss:.3f}"
    estimate = checkpoint.history[-1].val_loss if checkpoint.history else None
    return f"about {estimate:.2f}" if estimate is not None else "not measured"


def describe_fully(checkpoint: Checkpoint) -> dict:
    """All that can be told of a model in a few lines."""
    config, train = checkpoint.config, checkpoint.train_config
    norm = {"layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}[config.norm]
    activation = {"gelu": "GELU", "relu2": "squared ReLU", "swiglu": "SwiGLU"}[config.activation]
    loss = f"{checkpoint.val_loss:.4f} nats a token" if checkpoint.val_loss is not None else "not measured"
    shape = f"{config.n_layer} layers × {config.n_head} heads, {config.n_embd} wide, context {config.block_size}"
    steps = f"{checkpoint.step:,} steps of {train.batch_size} × {config.block_size} tokens by {train.optimizer}"
    trained = steps if checkpoint.history else "elsewhere"
    texts = [f"{text.name}, {text.n_chars:,} characters, SHA-256 {text.sha256[:12]}…" for text in checkpoint.provenance]
    return pack_facts(
        checkpoint.name,
        {
            "parameters": f"{config.n_params:,}",
            "shape": shape,
            "parts": f"{'no' if config.position == 'none' else config.position} positions, {norm}, {activation}",
            "tokenizer": f"{TOKENIZER_TITLES[checkpoint.tokenizer.kind]}, {checkpoint.tokenizer.vocab_size:,} tokens",
            "trained": trained,
            "validation loss": loss,
            "trained on": ", then ".join(texts) or "unknown",
        },
    )


def _uploaded(path: str | None, upload_mb: int) -> Checkpoint:
    if not path:
        raise BadInput("Choose a checkpoint file first.")
    file = Path(path)
    if file.stat().st_size > upload_mb * MB:
        raise BadInput(f"The file is larger than {upload_mb} MB: choose a smaller checkpoint.")
    return from_bytes(file.read_bytes())


def _uploaded_gpt2(paths: list[str] | None, upload_mb: int) -> Checkpoint:
    files = [Path(path) for path in paths or []]
    if sum(file.stat().st_size for file in files) > upload_mb * MB:
        raise BadInput(f"The files are larger than {upload_mb} MB together: choose a smaller GPT-2.")
    return open_folder(files, "GPT-2")


def _checkpoint_file(site: Site):
    @answer(list, str)
    def file(chosen, kind):
        if len(chosen) != 2 or kind not in DOWNLOADS:
            raise BadInput("The page asked for no checkpoint: choose one of the list.")
        key, name = chosen
        checkpoint = site.workspace(key).listed(name)
        size, upload_mb = BYTES_PER_FLOAT * checkpoint.config.n_params / MB, site.workspaces.settings.upload_mb
        if size > upload_mb:  # it could not come back, and browsers fail at some twice that
            limit = f"at most {upload_mb} MB can be downloaded here"
            raise BadInput(f"This checkpoint has {size:,.0f} MB, and {limit}: ask the host of this page for more.")
        plain = file_name(checkpoint.name)
        if kind == "zip":
            with site.visit():
                return pack_file(f"{plain}.zip", export_zip(checkpoint, plain))
        return pack_file(f"{plain}.safetensors", to_bytes(checkpoint))

    return file


def file_name(name: str) -> str:
    """A model's name as that of a file may be, without its ending.

    >>> file_name("Poems: <b>1</b>.txt")
    'Poems-b-1-b-.txt'
    """
    kept = "".join(c if c.isalnum() or c in "._" else "-" for c in name)
    return "-".join(filter(None, kept.split("-"))) or "checkpoint"
