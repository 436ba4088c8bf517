"""A pretended accelerator: tensors that say they are on `cuda` and compute on the CPU, so that a machine without one
notices where a program mixes devices. Values are real, so results can be compared with the CPU's."""

import contextlib
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_flatten, tree_map_only

CARD = torch.device("cuda", 0)
EXCHANGING = {"copy_", "to", "type_as", "__set__", "_has_compatible_shallow_copy_type"}  # may mix devices
NAMES = ("cpu", "cuda", "cuda:0")
PROPERTIES = {"device": CARD, "is_cuda": True, "is_cpu": False}


class OnCard(torch.Tensor):
    """A tensor of the pretended device."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return _call(function, args, kwargs or {})


class PretendDevice(TorchFunctionMode):
    """Within it `device="cuda"` works. RuntimeError as torch's own where an operation mixes devices, where a
    generator is of another device than what it draws, and where NumPy is asked to read the device's memory."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return _call(function, args, kwargs or {})

    def __enter__(self):
        stream = SimpleNamespace(wait_stream=lambda other: None)
        self._stack = contextlib.ExitStack()
        for place, name, value in (
            (torch.__future__, "_overwrite_module_params_on_conversion", True),  # else parameters stay CPU tensors
            (torch.cuda, "current_stream", lambda: stream),
            (torch.cuda, "Stream", lambda: stream),
            (torch.cuda, "stream", contextlib.nullcontext),
            (torch.Tensor, "record_stream", lambda tensor, stream: None),
        ):
            self._stack.enter_context(patch.object(place, name, value))
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._stack.close()


def _call(function, args, kwargs):
    name = getattr(function, "__name__", "")
    flat, _ = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    carded = [x for x in tensors if isinstance(x, OnCard)]
    devices = [torch.device(x) for x in flat if isinstance(x, torch.device | str) and str(x) in NAMES]
    if name == "__get__" and carded:
        attribute = resolve_name(function).split(".")[-2]
        if attribute in PROPERTIES:
            return PROPERTIES[attribute]
    if name == "_parse_to" or function is torch.device:  # names of devices, no tensors
        return function(*args, **kwargs)
    _check(name, args, flat, tensors, carded, devices)
    # Where the result is: where it is asked to be, else where the tensor is that it is made like, else on the card.
    like = {"to": tensors[1:2], "type_as": tensors[1:2], "copy_": tensors[:1], "cpu": [None]}.get(name)
    if devices:
        carries = devices[-1].type == "cuda"
    else:
        carries = isinstance(like[0], OnCard) if like else bool(carded)
    args, kwargs = tree_map_only(torch.device, lambda device: torch.device("cpu"), (args, kwargs))
    args, kwargs = tree_map_only(str, lambda x: "cpu" if x in NAMES else x, (args, kwargs))
    args, kwargs = tree_map_only(OnCard, lambda x: x.as_subclass(torch.Tensor), (args, kwargs))
    out = function(*args, **kwargs)
    return tree_map_only(torch.Tensor, lambda x: x.as_subclass(OnCard), out) if carries else out


def _check(name, args, flat, tensors, carded, devices):
    """RuntimeError or TypeError where the real device would raise."""
    drawn_on_card = any(device.type == "cuda" for device in devices) or carded
    if drawn_on_card and any(isinstance(x, torch.Generator) for x in flat):
        raise RuntimeError(f"{name}: Expected a 'cuda' device type for generator but found 'cpu'")
    if carded and name in ("numpy", "__array__"):
        raise TypeError("can't convert cuda:0 device type tensor to numpy; copy it to host memory first")
    exchanges = name in EXCHANGING or (name in ("__getitem__", "__setitem__") and isinstance(args[0], OnCard))
    if carded and not exchanges and any(x.ndim and not isinstance(x, OnCard) for x in tensors):
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu")
