"""Pretrain the embedded backbone on formula-driven images; needs no download and no photograph.

    python -m tlkit_plugins.tiny.pretrain --out my_weights
    torchrun --nproc-per-node 2 -m tlkit_plugins.tiny.pretrain --out my_weights

Two softmaxes: the figure's class, of `fractals.FAMILIES`, and that of the texture behind it (`fractals.texture`), so
that the pooled codes keep what fills a picture, not only the outline in its middle. Both are drawn once, as grey uint8,
and moved, thickened, coloured, overlaid and blurred batch by batch (`paint`). The class has a colour at first, without
which nothing is learned; the colour gets unreliable later, and pictures grow from 48 to 64 pixels. Two processes of one
thread each share a busy machine's cores much better than one process of two threads, whose threads wait for each other
in every layer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import timm
import torch
from safetensors.torch import save_file
from tlkit_plugins.tiny.fractals import dataset, texture_dataset, uniform
from torch import Generator, Tensor, distributed, nn
from torch.nn import functional

SIZE = 64
SMALL_UNTIL = 0.45
MEAN = STD = 0.5
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@dataclass(frozen=True)
class Scenes:
    """What pictures are painted from.

    Attributes:
        figures: uint8 (n, 64, 64).
        labels: their classes, int64 (n,).
        tints: the colour of each class, float32 (classes, 3).
        textures: uint8 (m, 64, 64).
        texture_labels: their classes, int64 (m,).
        palettes: the middle colour of each texture class and the way from its darkest to its brightest, float32
            (2, classes, 3).
    """

    figures: Tensor
    labels: Tensor
    tints: Tensor
    textures: Tensor
    texture_labels: Tensor
    palettes: Tensor

    @classmethod
    def draw(cls, args: argparse.Namespace) -> Self:
        """Draw this process's share of the pictures; `args` as `parser` returns them."""
        classes = {"ifs": args.ifs, "contour": args.contours, "glyph": args.glyphs}
        colours = Generator().manual_seed(args.seed)
        shared = {"size": SIZE, "seed": args.seed, "part": RANK}
        figures, labels = dataset(classes, args.images // WORLD, **shared)
        tints = uniform(0.2, 1, (sum(classes.values()), 3), colours)
        textures, texture_labels = texture_dataset(args.textures, args.images // WORLD, **shared)
        middle, way = (uniform(low, high, (args.textures, 3), colours) for low, high in ((0, 0.6), (-0.7, 0.7)))
        return cls(figures, labels, tints, textures, texture_labels, torch.stack([middle, way]))


def main() -> None:
    """Read the command line, draw figures and textures, train, write config.json and model.safetensors."""
    args = parser().parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    if WORLD > 1:
        distributed.init_process_group("gloo")
    scenes = Scenes.draw(args)
    model_args = {"channels": args.channels}
    classes = len(scenes.tints) + args.textures
    model = timm.create_model(args.architecture, num_classes=classes, **model_args)
    train(model, scenes, args)
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
    add("--contours", type=int, default=100, help="classes that are closed curves")
    add("--glyphs", type=int, default=300, help="classes that are Bezier strokes")
    add("--textures", type=int, default=300, help="classes of backgrounds")
    add("--images", type=int, default=50, help="images of each class, all processes together")
    add("--epochs", type=int, default=20)
    add("--batch-size", type=int, default=64, help="of each process")
    add("--lr", type=float, default=5e-3, help="peak learning rate of AdamW")
    add("--weight-decay", type=float, default=0.05)
    add("--mix", type=float, default=0.3, help="share of pictures that show a second figure")
    add("--small", type=int, default=48, help=f"side of the pictures in the first {SMALL_UNTIL:.0%}% of the training")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1, help="threads of each process; one, and two processes, on a busy machine")
    return described


def train(model: nn.Module, scenes: Scenes, args: argparse.Namespace) -> list[float]:
    """Train in place with AdamW and a one-cycle cosine schedule; return the mean loss of each epoch."""
    generator = Generator().manual_seed(args.seed + RANK)
    model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    steps = len(scenes.figures) // args.batch_size
    history = list[float]()
    for epoch in range(args.epochs):
        start, losses = time.monotonic(), list[float]()
        order = torch.randperm(len(scenes.figures), generator=generator)[: steps * args.batch_size]
        for step, rows in enumerate(torch.split(order, args.batch_size)):
            done = (epoch + step / steps) / args.epochs
            optimizer.param_groups[0]["lr"] = args.lr * one_cycle(done)
            loss = batch_loss(model, scenes, rows, args, done, generator)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            average_gradients(model)
            optimizer.step()
            losses.append(loss.item())
        history.append(sum(losses) / len(losses))
        if RANK == 0:
            speed = len(losses) * args.batch_size * WORLD / (time.monotonic() - start)
            print(f"epoch {epoch + 1}/{args.epochs} loss {history[-1]:.3f} {speed:.0f} images/s", flush=True)
    return history


def one_cycle(done: float) -> float:
    """Return the factor of the learning rate: up for a twentieth of the training, then down along a cosine."""
    return max(done / 0.05, 0.04) if done < 0.05 else (1 + math.cos(math.pi * (done - 0.05) / 0.95)) / 2


def ramp(done: float, start: float, end: float) -> float:
    """Return 0 before `start`, 1 after `end`, even steps between."""
    return min(max((done - start) / (end - start), 0), 1)


def batch_loss(
    model: nn.Module, scenes: Scenes, rows: Tensor, args: argparse.Namespace, done: float, generator: Generator
) -> Tensor:
    """Return the mean cross entropies, figures and textures, of freshly painted pictures, with label smoothing 0.1.

    Args:
        model: gives the scores of the figure classes, then of the texture classes.
        scenes: what to paint.
        rows: which figures, int64 (n,); the textures are drawn at random.
        args: as `parser` returns them.
        done: how far the training is, from 0 to 1; pictures grow with it and colours stop giving the class away.
        generator: the source of randomness.
    """
    ground = torch.randint(len(scenes.textures), rows.shape, generator=generator)
    pictures, partner, share, clear = paint(
        scenes, rows, ground, generator, args.small if done < SMALL_UNTIL else SIZE, args.mix, ramp(done, 0.1, 0.5)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(pictures.contiguous(memory_format=torch.channels_last)).float()
    named, textured = logits.split([len(scenes.tints), logits.shape[1] - len(scenes.tints)], 1)
    labels = scenes.labels[rows]

    def entropy(scores: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(scores, target, reduction="none", label_smoothing=0.1)

    figures = share * entropy(named, labels) + (1 - share) * entropy(named, labels[partner])
    return (figures + 0.7 * clear * entropy(textured, scenes.texture_labels[ground])).mean()


def average_gradients(model: nn.Module) -> None:
    """Average the gradients over the processes that torchrun started."""
    if WORLD == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= WORLD
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def paint(
    scenes: Scenes, rows: Tensor, ground: Tensor, generator: Generator, size: int, mix: float, free: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Paint a batch of coloured, moved and blurred figures on textures.

    Args:
        scenes: figures, textures and their colours, followed roughly, so that the codes tell colours apart.
        rows: which figures, int64 (n,).
        ground: which textures, int64 (n,).
        generator: the source of randomness.
        size: side of the pictures.
        mix: share of the pictures that get the figure of another row over their own.
        free: from 0 to 1, how far figures may leave the colour of their class and textures may hide them.

    Returns:
        Normalised pictures, float32 (n, 3, size, size); the row whose figure lies over each, int64 (n,); how much of
        the label is the picture's own, float32 (n,): 1 without a second figure, else 1/2; how clear the texture is.
    """
    n, second = len(rows), round(mix * len(rows))
    partner = torch.randperm(n, generator=generator)
    share = torch.where(torch.arange(n) < second, 0.5, 1.0)
    light = torch.rand(n, 1, 1, 1, generator=generator) < 0.3
    clear = torch.rand(n, generator=generator).sqrt() * (torch.rand(n, generator=generator) < 0.8)
    scene = _background(scenes, ground, clear * (0.5 + 0.5 * free), size, light, generator)
    tint = scenes.tints[scenes.labels[rows]]
    tint = torch.where(torch.rand(n, 1, generator=generator) < 0.6 * free, uniform(0, 1, (n, 3), generator), tint)
    scene = _colour(_figures(scenes.figures[rows], size, generator), tint, scene, light, generator)
    if second:
        above = partner[:second]
        over = _figures(scenes.figures[rows[above]], size, generator)
        scene[:second] = _colour(over, tint[above], scene[:second], light[:second], generator)
    plain = torch.rand(n, 1, 1, 1, generator=generator) < 0.3
    scene = _blur(torch.where(plain, scene[:, :1], scene), generator)
    scene = scene + uniform(0, 0.03, (n, 1, 1, 1), generator) * torch.randn(scene.shape, generator=generator)
    return (scene.clamp(0, 1) - MEAN) / STD, partner, share, clear


def _figures(grey: Tensor, size: int, generator: Generator) -> Tensor:
    return _thicken(_move(grey[:, None].float() / 255, size, generator), generator)


def _move(figures: Tensor, size: int, generator: Generator) -> Tensor:
    n = len(figures)
    angle = uniform(-0.35, 0.35, (n,), generator)
    zoom = torch.exp(uniform(-0.45, 0.45, (n, 1), generator) + uniform(-0.2, 0.2, (n, 2), generator))
    rows = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(n, 2, 2) * zoom[:, None]
    shift = uniform(-0.25, 0.25, (n, 2, 1), generator)
    grid = functional.affine_grid(torch.cat([rows, shift], 2), [n, 1, size, size], align_corners=False)
    moved: Tensor = functional.grid_sample(figures, grid, align_corners=False)
    return moved


def _thicken(figures: Tensor, generator: Generator) -> Tensor:
    n = len(figures)
    wide: Tensor = functional.max_pool2d(figures, 3, 1, 1)
    thick = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.5, wide, figures)
    lit: Tensor = (thick * uniform(1, 2.5, (n, 1, 1, 1), generator)).clamp(max=1)
    return lit


def _background(
    scenes: Scenes, ground: Tensor, contrast: Tensor, size: int, light: Tensor, generator: Generator
) -> Tensor:
    n = len(ground)
    base, change = scenes.palettes[:, scenes.texture_labels[ground], :, None, None]
    base = base + uniform(-0.15, 0.15, (n, 3, 1, 1), generator)
    change = change + uniform(-0.15, 0.15, (n, 3, 1, 1), generator)
    shift = torch.randint(SIZE, (2,), generator=generator).tolist()
    drawn = scenes.textures[ground].roll(shift, (1, 2))[:, None].float() / 255
    if size < SIZE:
        drawn = functional.interpolate(drawn, size=(size, size), mode="bilinear", antialias=True)
    scene = base + change * contrast[:, None, None, None] * (drawn - 0.5)
    slow = uniform(-0.25, 0.25, (n, 3, 3, 3), generator) * uniform(0, 1, (n, 1, 1, 1), generator) ** 2
    scene = scene + functional.interpolate(slow, size=(size, size), mode="bilinear", align_corners=False)
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
            "description": "Trained from scratch on formula-driven images only: fractals, contours, strokes, textures.",
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
