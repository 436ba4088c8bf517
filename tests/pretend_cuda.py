"""A pretended GPU: tensors that say they are on `cuda` and compute on the CPU, so that a machine without one notices
where a program mixes devices, in autograd and the optimiser too.

Whether a tensor is on the card is known by its storage. Operations are watched where torch dispatches them, below
autograd and inside composite functions; what programs ask for (`device="cuda"`, `x.to(...)`, `x.device`) is answered
above. Values are real, so results can be compared with the CPU's.
"""

import contextlib
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

CARD, HOST = torch.device("cuda", 0), torch.device("cpu")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
"""Their indices (the second argument) may be on the host."""
STRICT = ("aten::_fused_adamw_",)
"""Single numbers may not be on the host either: the kernel reads them."""
ANSWERS = {"device": CARD, "is_cuda": True, "is_cpu": False}
"""What a tensor of the card says of itself."""


class PretendCuda(TorchFunctionMode):
    """RuntimeError as torch's own where an operation mixes devices, where a generator is of another device than what it
    draws; TypeError where NumPy is asked to read the card."""

    def __enter__(self):
        self.storages = {}  # by address; kept, so that no other storage gets the address
        stream = SimpleNamespace(wait_stream=lambda other: None)
        self._stack = contextlib.ExitStack()
        for place, name, value in (
            (torch.cuda, "current_stream", lambda: stream),
            (torch.cuda, "Stream", lambda *device: stream),
            (torch.cuda, "stream", contextlib.nullcontext),
            (torch.Tensor, "record_stream", lambda tensor, stream: None),
        ):
            self._stack.enter_context(patch.object(place, name, value))
        self._stack.enter_context(_Watch(self))
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._stack.__exit__(*error)

    def has(self, tensor):
        return tensor.untyped_storage()._cdata in self.storages

    def take(self, result):
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            self.storages[storage._cdata] = storage
        return result

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if name == "_parse_to" or function is torch.device:  # names of devices (Module.to), no tensors
            return function(*args, **kwargs)
        if name == "__get__" and function.__self__.__name__ in ANSWERS and self.has(args[0]):
            return ANSWERS[function.__self__.__name__]
        given = tree_leaves((args, kwargs))
        card = any(isinstance(x, torch.Tensor) and self.has(x) for x in given)
        wanted = [x for x in map(_device, given) if x is not None]
        if name in ("numpy", "__array__") and card:
            raise TypeError("can't convert cuda:0 device type tensor to numpy; copy it to host memory first")
        if name in ("to", "cpu", "cuda", "type_as"):
            return self._moved(name, args, kwargs, wanted)
        asked = wanted[-1] if wanted else None
        if (card or asked == CARD) and any(isinstance(x, torch.Generator) for x in given):
            raise RuntimeError(f"{name}: expected a 'cuda' device type for generator but found 'cpu'")
        args, kwargs = tree_map(lambda x: HOST if _device(x) == CARD else x, (args, kwargs))
        result = function(*args, **kwargs)
        return self.take(result) if asked == CARD else result

    def _moved(self, name, args, kwargs, wanted):
        tensor, *rest = args
        rest = [*rest, *kwargs.values()]
        like = [x for x in rest if isinstance(x, torch.Tensor)]
        dtypes = [*(x for x in rest if isinstance(x, torch.dtype)), *(x.dtype for x in like)]
        here = self.has(tensor)
        there = {"cpu": False, "cuda": True}.get(name, here)
        if like or wanted:
            there = self.has(like[0]) if like else wanted[-1] == CARD
        with _disable_current_modes():
            moved = tensor.to(dtypes[0]) if dtypes else tensor
            if here != there and moved.untyped_storage()._cdata == tensor.untyped_storage()._cdata:
                moved = moved.clone()
        return self.take(moved) if there else moved


class _Watch(TorchDispatchMode):
    def __init__(self, card):
        super().__init__()
        self.card = card

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function._schema.name, kwargs or {}
        read = (args[:1], args[2:]) if name in INDEXING else (args, kwargs)
        on_card = [self.card.has(t) for t in _tensors((args, kwargs))]
        sizes = [(self.card.has(t), t.ndim) for t in _tensors(read)]
        if (
            any(on_card)
            and name not in ("aten::copy_", "aten::_to_copy")
            and any((n or name in STRICT) and not on for on, n in sizes)
        ):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")
        result = function(*args, **kwargs)
        carries = self.card.has(args[0]) if name == "aten::copy_" else any(on_card)
        if not on_card and torch._C._current_graph_task_id() != -1:
            carries = True  # zeros that autograd makes for an output without a gradient
        return self.card.take(result) if carries else result


def _tensors(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def _device(x):
    """The device that an argument names."""
    if isinstance(x, str) and x in ("cpu", "cuda", "cuda:0"):
        x = torch.device(x)
    if isinstance(x, torch.device):
        return CARD if x.type == "cuda" else HOST if x.type == "cpu" else None
    return None
