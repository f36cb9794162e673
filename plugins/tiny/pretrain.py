"""Pretrain the embedded backbone on formula-driven images; needs no download and no photograph.

    python -m tlkit_plugins.tiny.pretrain --out my_weights
    torchrun --nproc-per-node 2 -m tlkit_plugins.tiny.pretrain --out my_weights

One softmax over all classes of `fractals.FAMILIES`. The figures are drawn once, as grey uint8, and moved, thickened,
coloured, overlaid and blurred batch by batch (`paint`). Two processes of one thread each share a busy machine's cores
much better than one process of two threads, whose threads wait for each other in every layer.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from tlkit_plugins.tiny.fractals import dataset, uniform
from torch import Generator, Tensor, distributed, nn
from torch.nn import functional

SIZE = 64
MEAN = STD = 0.5
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def main() -> None:
    """Read the command line, draw the figures, train, write config.json and model.safetensors."""
    args = parser().parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    if WORLD > 1:
        distributed.init_process_group("gloo")
    classes = {"ifs": args.ifs, "contour": args.contours, "glyph": args.glyphs}
    figures, labels = dataset(classes, args.images // WORLD, size=SIZE, seed=args.seed, part=RANK)
    model_args = {"channels": args.channels}
    model = timm.create_model(args.architecture, num_classes=sum(classes.values()), **model_args)
    train(model, figures, labels, args)
    if RANK == 0:
        recipe = {name: value for name, value in vars(args).items() if name not in {"out", "threads"}}
        write(args.out, model, hub_config(model, args.architecture, model_args, recipe | {"processes": WORLD}))
    if WORLD > 1:
        distributed.destroy_process_group()


def parser() -> argparse.ArgumentParser:
    """Return the settings; their defaults are those of the weights in the package."""
    described = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = described.add_argument
    add("--out", type=Path, required=True, help="folder for config.json and model.safetensors")
    add("--architecture", default="resnet10t", help="a ResNet of timm")
    add("--channels", type=int, nargs=4, default=[32, 64, 128, 256], help="width of its four stages")
    add("--ifs", type=int, default=500, help="classes that are iterated function systems")
    add("--contours", type=int, default=150, help="classes that are closed curves")
    add("--glyphs", type=int, default=350, help="classes that are Bezier strokes")
    add("--images", type=int, default=120, help="images of each class, all processes together")
    add("--epochs", type=int, default=4)
    add("--batch-size", type=int, default=64, help="of each process")
    add("--lr", type=float, default=5e-3, help="peak learning rate of AdamW")
    add("--weight-decay", type=float, default=0.05)
    add("--mix", type=float, default=0.35, help="share of pictures that show a second figure")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1, help="threads of each process; one, and two processes, on a busy machine")
    return described


def train(model: nn.Module, figures: Tensor, labels: Tensor, args: argparse.Namespace) -> list[float]:
    """Train in place with AdamW and a one-cycle cosine schedule; return the mean loss of each epoch."""
    generator = Generator().manual_seed(args.seed + RANK)
    tints = uniform(0.2, 1, (int(labels.max()) + 1, 3), Generator().manual_seed(args.seed))
    model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    steps = len(figures) // args.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.epochs * steps, pct_start=0.1)
    history = []
    for epoch in range(1, args.epochs + 1):
        start, losses = time.monotonic(), []
        order = torch.randperm(len(figures), generator=generator)[: steps * args.batch_size]
        for rows in torch.split(order, args.batch_size):
            loss = batch_loss(model, figures[rows], labels[rows], tints, generator, args.mix)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            average_gradients(model)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        history.append(sum(losses) / steps)
        if RANK == 0:
            speed = len(order) * WORLD / (time.monotonic() - start)
            print(f"epoch {epoch}/{args.epochs} loss {history[-1]:.3f} {speed:.0f} images/s", flush=True)
    return history


def batch_loss(
    model: nn.Module, figures: Tensor, labels: Tensor, tints: Tensor, generator: Generator, mix: float
) -> Tensor:
    """Return the mean cross entropy of freshly painted pictures, with label smoothing 0.1; bfloat16 inside."""
    pictures, partner, share = paint(figures, tints[labels], generator, mix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(pictures.contiguous(memory_format=torch.channels_last)).float()
    own, other = (
        functional.cross_entropy(logits, target, reduction="none", label_smoothing=0.1)
        for target in (labels, labels[partner])
    )
    return (share * own + (1 - share) * other).mean()


def average_gradients(model: nn.Module) -> None:
    """Average the gradients over the processes that torchrun started, in one message."""
    if WORLD > 1:
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = torch.split(flat / WORLD, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def paint(grey: Tensor, tint: Tensor, generator: Generator, mix: float) -> tuple[Tensor, Tensor, Tensor]:
    """Turn grey figures into a batch of coloured, moved and blurred pictures.

    Args:
        grey: uint8 (n, size, size).
        tint: float32 (n, 3): the colour of each figure's class, followed roughly, so that the codes tell colours apart.
        generator: the source of randomness.
        mix: share of the pictures that get the figure of another row over their own.

    Returns:
        Normalised pictures, float32 (n, 3, size, size); the row whose figure may lie over each, int64 (n,); how much
        of the label is the picture's own, float32 (n,): 1 without a second figure, else 1/2.
    """
    n = len(grey)
    partner = torch.randperm(n, generator=generator)
    share = torch.where(torch.rand(n, generator=generator) < mix, 0.5, 1.0)
    light = torch.rand(n, 1, 1, 1, generator=generator) < 0.3
    scene = _background(n, grey.shape[-1], light, generator)
    scene = _colour(_figures(grey, generator), tint, scene, light, generator)
    over = _colour(_figures(grey[partner], generator), tint[partner], scene, light, generator)
    scene = torch.where((share < 1)[:, None, None, None], over, scene)
    plain = torch.rand(n, 1, 1, 1, generator=generator) < 0.3
    scene = _blur(torch.where(plain, scene[:, :1], scene), generator)
    scene = scene + uniform(0, 0.03, (n, 1, 1, 1), generator) * torch.randn(scene.shape, generator=generator)
    return (scene.clamp(0, 1) - MEAN) / STD, partner, share


def _figures(grey: Tensor, generator: Generator) -> Tensor:
    return _thicken(_move(grey[:, None].float() / 255, generator), generator)


def _move(figures: Tensor, generator: Generator) -> Tensor:
    n = len(figures)
    angle = uniform(-0.3, 0.3, (n,), generator)
    zoom = torch.exp(
        uniform(-0.15, 0.4, (n, 2), generator).mean(1, keepdim=True) + uniform(-0.2, 0.2, (n, 2), generator)
    )
    rows = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(n, 2, 2) * zoom[:, None]
    shift = uniform(-0.15, 0.15, (n, 2, 1), generator)
    grid = functional.affine_grid(torch.cat([rows, shift], 2), list(figures.shape), align_corners=False)
    moved: Tensor = functional.grid_sample(figures, grid, align_corners=False)
    return moved


def _thicken(figures: Tensor, generator: Generator) -> Tensor:
    n = len(figures)
    wide: Tensor = functional.max_pool2d(figures, 3, 1, 1)
    thick = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.5, wide, figures)
    lit: Tensor = (thick * uniform(1, 2.5, (n, 1, 1, 1), generator)).clamp(max=1)
    return lit


def _background(n: int, size: int, light: Tensor, generator: Generator) -> Tensor:
    scene = uniform(0, 0.4, (n, 3, 1, 1), generator).expand(-1, -1, size, size)
    for cells in (3, 8, 32):
        noise = uniform(-0.2, 0.2, (n, 3, cells, cells), generator) * uniform(0, 1, (n, 1, 1, 1), generator) ** 2
        scene = scene + functional.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)
    return torch.where(light, 1 - scene, scene).clamp(0, 1)


def _colour(figures: Tensor, tint: Tensor, behind: Tensor, light: Tensor, generator: Generator) -> Tensor:
    n = len(figures)
    colour = tint[:, :, None, None] + uniform(-0.2, 0.2, (n, 3, 1, 1), generator)
    colour = colour / colour.amax(1, keepdim=True)
    low, high = (
        torch.where(light, value - 0.45, value) for value in uniform(0.5, 1, (2, n, 1, 1, 1), generator).sort(0)[0]
    )
    opaque: Tensor = (figures * uniform(1, 3, (n, 1, 1, 1), generator)).clamp(max=1)
    scene: Tensor = behind + opaque * (colour * (low + (high - low) * figures) - behind)
    return scene


def _blur(scene: Tensor, generator: Generator) -> Tensor:
    size = scene.shape[-1]
    blurred = []
    for part in scene.chunk(4):
        small = int(torch.randint(size // 6, 3 * size, (1,), generator=generator))
        if small < size:
            part = functional.interpolate(part, size=(small, small), mode="bilinear", antialias=True)
            part = functional.interpolate(part, size=(size, size), mode="bicubic", align_corners=False)
        blurred.append(part)
    return torch.cat(blurred)


def hub_config(
    model: nn.Module, architecture: str, model_args: dict[str, Any], recipe: dict[str, Any]
) -> dict[str, Any]:
    """Return the config.json of timm's hub layout; the classifier is left out of the file, so num_classes is 0."""
    return {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": model.num_features,
        "global_pool": "avg",
        "model_args": model_args,
        "pretrained_cfg": {
            "tag": "formulas",
            "custom_load": False,
            "input_size": [3, SIZE, SIZE],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "num_classes": 0,
            "pool_size": [2, 2],
            "first_conv": "conv1.0",
            "classifier": "fc",
            "license": "apache-2.0",
            "description": "Trained from scratch on formula-driven images only: fractals, contours, strokes.",
            "paper_ids": ["arXiv:2101.08515", "arXiv:2110.03091", "arXiv:2206.09132"],
        },
        "pretraining": recipe,
    }


def write(folder: Path, model: nn.Module, config: dict[str, Any]) -> None:
    """Write config.json and the trunk as float16 model.safetensors; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    trunk = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("fc.")
    }
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        weights, text = Path(scratch) / "model.safetensors", Path(scratch) / "config.json"
        save_file(trunk, weights, metadata={"format": "pt"})
        weights.chmod(0o644)  # safetensors writes for the owner only
        text.write_text(json.dumps(config, indent=2) + "\n")
        weights.replace(folder / weights.name)
        text.replace(folder / text.name)


if __name__ == "__main__":
    main()
