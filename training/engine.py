"""DeepSpeed around one of our models: one process or many, CPU (gloo) or GPU (NCCL), ZeRO 0-2. Its only importer.

What a step is does not depend on how many processes take it. The global batch is cut into `micro_batches` numbered
pieces; rank r of W computes pieces r, r+W, ...; dropout in piece q is keyed by (seed, step, q), and the objective is

    sum over parts p (masked LM, next sentence, ...) of  the mean of p's loss over all its predictions in the global batch

so a piece with n of a part's N predictions weighs n/N, not 1/pieces: a mean of means would weigh a target in a
sparse piece more than one in a dense piece. Gradients are summed over pieces and ranks in float32.

DeepSpeed is asked for little, because much of what it does per step costs time here (4 layers x 256, one core, one
process, stage 0: 5.5 ms over a bare loop of 41, of which 3.5 are removed): no throughput timer (`steps_per_print`
None), no all-reduce of gradients by a process that is alone, clipping by torch's foreach kernels, which also gives the
norm (DeepSpeed has none at stage 0 in float32). bfloat16 is autocast over float32 weights, inside the module: measured
within 8 % of a pure bfloat16 model, and LayerNorm, softmax, losses and all optimizer state stay float32.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal, Protocol, Self

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]

from training.checkpoint import check_fits
from training.losses import Losses

Precision = Literal["float32", "bfloat16"]
Predictions = Mapping[str, int]  # part -> predictions in a batch


class Batch(Protocol):
    """What a model's training forward reads."""

    @property
    def num_tokens(self) -> int: ...

    def to(self, device: torch.device | str) -> Self: ...


class Engine:
    """A model, its optimizer and the process group, as long as the `with` block lasts.

    `micro_batches` is their number in a global batch. Raises ValueError when the processes cannot share it evenly.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        micro_batches: int = 1,
        clip_norm: float | None = None,
        precision: Precision = "float32",
        zero_stage: int = 0,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        deepspeed = _deepspeed(self.device)
        _join_group(self.device)
        self.rank, self.world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if micro_batches % self.world_size:
            raise ValueError(
                f"{micro_batches} micro-batches over {self.world_size} processes: each must get the same number; "
                "use a number of processes that divides batch_size / micro_batch_size, or a smaller micro_batch_size"
            )
        if zero_stage not in (0, 1, 2):
            raise ValueError(f"zero_stage {zero_stage}: stages 0, 1 and 2 are supported")
        self.model, self.zero_stage, self._clip_norm = model, zero_stage, clip_norm
        self._predictions: Callable[[Batch], Predictions] = model.predictions  # type: ignore[assignment]
        self.share = range(self.rank, micro_batches, self.world_size)
        self._objective = _Objective(model, torch.bfloat16 if precision == "bfloat16" else None)
        accumulated = len(self.share)
        settings: dict[str, Any] = {
            "train_batch_size": micro_batches,
            "train_micro_batch_size_per_gpu": 1,  # DeepSpeed only multiplies; a piece is our unit
            "gradient_accumulation_steps": accumulated,
            "steps_per_print": None,
            "zero_optimization": {"stage": zero_stage},
            "gradient_clipping": clip_norm or 0.0 if zero_stage else 0.0,  # left out means clipping at 1.0
        }
        self._deterministic = torch.are_deterministic_algorithms_enabled()
        if self.device.type == "cpu":
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # ZeRO imports torch's inductor, which uses torch.jit
            self._engine: Any = deepspeed.initialize(
                model=self._objective, optimizer=optimizer, config=settings, dist_init_required=False
            )[0]
        self._optimizer = optimizer
        if not zero_stage and self.world_size == 1:
            self._engine.enable_backward_allreduce = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model; the process group stays, because DeepSpeed keeps it in its globals."""
        self._engine.destroy()
        if self.device.type == "cpu":
            torch.use_deterministic_algorithms(self._deterministic)

    def step(
        self,
        pieces: Sequence[Batch],
        *,
        learning_rate: float,
        noise: Callable[[int], int],
    ) -> dict[str, float]:
        """One update from this rank's `pieces` (those numbered `share`); the same figures on every rank.

        `noise` seeds a piece's dropout from its number.
        Figures: loss, tokens, <part>, <part>_accuracy, gradient_norm.
        """
        own = [self._predictions(piece) for piece in pieces]
        totals = self._totals(own)
        self._objective.train()
        figures = {"tokens": torch.tensor(sum(piece.num_tokens for piece in pieces), device=self.device)}
        for number, piece, count in zip(self.share, pieces, own, strict=True):
            torch.manual_seed(noise(number))
            shares = {part: count[part] / totals[part] if totals[part] else 0.0 for part in totals}
            objective = self._engine(piece.to(self.device), shares, float(self.world_size))
            # A new tensor: for the forward's own output DeepSpeed 0.19.8 divides by the number of pieces all the same.
            self._engine.backward(objective * 1.0, scale_wrt_gas=False)
            losses = self._objective.losses
            for part in totals:
                value = losses.parts[part].detach() * shares[part]
                correct = losses.counts[f"{part}_correct"] / max(1, totals[part])
                for name, term in ((part, value), (f"{part}_accuracy", correct)):
                    figures[name] = figures[name] + term if name in figures else term
            if number == self.share[-1]:
                norm = self._clip()
            self._set_rate(learning_rate)
            self._engine.step()
        return self._figures(figures, list(totals), norm)

    def _totals(self, own: Sequence[Predictions]) -> dict[str, int]:
        """Predictions of each part in the global batch."""
        totals = {part: sum(count[part] for count in own) for part in own[0]}
        if self.world_size == 1:
            return totals
        counts = torch.tensor(list(totals.values()), dtype=torch.int64, device=self.device)
        torch.distributed.all_reduce(counts)
        return dict(zip(totals, counts.tolist(), strict=True))

    def _clip(self) -> Tensor | None:
        """Clip at stage 0, where the whole gradient is at hand; later stages clip inside DeepSpeed's step."""
        if self.zero_stage:
            return None
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if self._clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self._clip_norm, norm, foreach=True)
        return norm

    def _set_rate(self, learning_rate: float) -> None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate

    def _figures(
        self, local: Mapping[str, Tensor], parts: list[str], norm: Tensor | None
    ) -> dict[str, float]:
        """Sum over ranks and fetch everything in one transfer."""
        values = torch.stack([value.to(torch.float64) for value in local.values()])
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        figures = dict(zip(local, values.tolist(), strict=True))
        global_norm = self._engine.get_global_grad_norm() if norm is None else norm
        loss = sum(figures[part] for part in parts)
        return {"loss": loss, **figures, "gradient_norm": float(global_norm)}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
        """(weights by parameter name, optimizer state by `<parameter>/<key>`, updates made), float32 on the CPU.

        Whole tensors, whatever the stage and the number of processes: any of them can go on from what any other wrote.
        Every rank must call it. Before the first update there is no optimizer state, and updates is 0.
        """
        self._link_moments()
        weights = {name: p.detach().cpu() for name, p in self._named()}
        moments: dict[str, Tensor] = {}
        updates = 0
        for name, parameter in self._named():
            for key, value in self._moments_of(parameter).items():
                if key == "step":
                    updates = int(value)
                else:
                    moments[f"{name}/{key}"] = value.detach().cpu()
        return weights, moments, updates

    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], updates: int) -> None:
        """Continue from what `state` returned. Raises ValueError naming the first tensor that does not fit the model."""
        check_fits(self.model, weights)
        with torch.no_grad():
            for name, parameter in self._named():
                parameter.copy_(weights[name])
        if not updates:
            return
        keys = sorted({name.rpartition("/")[2] for name in moments})
        state = self._optimizer.state
        if not self.zero_stage:
            for name, parameter in self._named():
                if f"{name}/{keys[0]}" not in moments:  # frozen
                    continue
                kept = {key: moments[f"{name}/{key}"].to(self.device, copy=True) for key in keys}
                state[parameter] = {"step": torch.tensor(float(updates), device=self.device), **kept}
            return
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        zero = self._engine.optimizer
        for flat in zero.single_partition_of_fp32_groups:
            fresh = {key: torch.zeros_like(flat) for key in keys}
            state[flat] = {"step": torch.tensor(float(updates), device=self.device), **fresh}
        self._link_moments()
        for name, parameter in self._named():
            if f"{name}/{keys[0]}" not in moments:
                continue
            safe_set_full_fp32_param(parameter, weights[name].to(self.device))
            for key in keys:
                safe_set_full_optimizer_state(parameter, moments[f"{name}/{key}"].to(self.device), key)

    def _link_moments(self) -> None:
        """Let ZeRO map its flat optimizer state to parameters. By itself it does so only for the first group (0.19.8)."""
        if self.zero_stage:
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def agree(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.int64, device=self.device)
        torch.distributed.broadcast(tensor, src=0)
        return int(tensor)

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model.named_parameters())

    def _moments_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if not self.zero_stage:
            return dict(self._optimizer.state.get(parameter, {}))
        from deepspeed.utils import safe_get_full_optimizer_state

        flat = self._engine.optimizer.single_partition_of_fp32_groups[0]
        out: dict[str, Tensor] = {}
        for key, value in self._optimizer.state.get(flat, {}).items():
            out[key] = value if key == "step" else safe_get_full_optimizer_state(parameter, key)
        return out


class _Objective(nn.Module):
    """The scalar DeepSpeed differentiates: the model's parts, weighted; the rest of its losses stay at hand here."""

    def __init__(self, model: nn.Module, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.model, self._autocast = model, autocast
        self.losses: Losses

    def forward(self, batch: Batch, shares: Mapping[str, float], scale: float) -> Tensor:
        dtype = self._autocast
        device = next(self.model.parameters()).device.type
        with nullcontext() if dtype is None else torch.autocast(device, dtype):
            self.losses = self.model(batch)
        if scale == 1.0 and all(share == 1.0 for share in shares.values()):
            return self.losses.total
        parts = self.losses.parts
        assert all(parts[part].requires_grad for part in shares), (
            "pieces are weighed part by part: parts keep their graph"
        )
        terms = [parts[part] * (share * scale) for part, share in shares.items()]
        return torch.stack(terms).sum()


def noise_key(seed: int, step: int, piece: int) -> int:
    """The seed of dropout in one piece of one step: no generator has a state that would have to be saved."""
    key = hashlib.blake2b(f"dropout/{seed}/{step}/{piece}".encode(), digest_size=8).digest()
    return int.from_bytes(key, "little") >> 1


def _deepspeed(device: torch.device) -> Any:
    """Import DeepSpeed quietly. On CPU its shared-memory operator is left out: it would be compiled for 100 s."""
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DS_IGNORE_CUDA_DETECTION", "1")
    import deepspeed
    import deepspeed.ops
    from deepspeed.utils import logger

    logger.setLevel("ERROR")
    if device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _join_group(device: torch.device) -> None:
    """Use the process group that is there (Ray Train, torchrun), else make one of this process alone: no port, no network."""
    if not torch.distributed.is_initialized():
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")  # DeepSpeed reads them
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        backend = "nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
