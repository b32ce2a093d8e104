"""Writes the archives of torch.save without torch: a ZIP of one pickle and raw little-endian storages."""

import io
import pickle
import sys
import types
import zipfile
from dataclasses import dataclass

import numpy

STORAGES = {
    "FloatStorage": numpy.float32,
    "DoubleStorage": numpy.float64,
    "HalfStorage": numpy.float16,
    "BFloat16Storage": numpy.uint16,
    "ByteStorage": numpy.uint8,
    "LongStorage": numpy.int64,
}

# The pickler writes a class or function as the module and name under which it finds it again, so these stand-ins
# must be importable under the names that torch uses.
torch = sys.modules.setdefault("torch", types.ModuleType("torch"))
torch._utils = sys.modules.setdefault("torch._utils", types.ModuleType("torch._utils"))


def _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks):
    return Tensor(storage, offset, tuple(size), tuple(stride))


_rebuild_tensor_v2.__module__ = "torch._utils"
torch._utils._rebuild_tensor_v2 = _rebuild_tensor_v2
for name in STORAGES:
    setattr(torch, name, type(name, (), {"__module__": "torch"}))


@dataclass(eq=False)
class Storage:
    """A flat array under its torch storage type; bfloat16 values are their upper sixteen bits."""

    kind: str
    values: numpy.ndarray


@dataclass(eq=False)
class Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    size: tuple
    stride: tuple

    def __reduce__(self):
        return _rebuild_tensor_v2, (self.storage, self.offset, self.size, self.stride, False, {})


def contiguous(size):
    """Row-major strides in elements."""
    strides = [1]
    for extent in reversed(size[1:]):
        strides.insert(0, strides[0] * extent)
    return tuple(strides[: len(size)])


def tensor(values, kind="FloatStorage"):
    """A contiguous tensor with a storage of its own."""
    values = numpy.asarray(values)
    flat = to_bfloat16(values) if kind == "BFloat16Storage" else values.astype(STORAGES[kind])
    return Tensor(Storage(kind, flat.reshape(-1)), 0, values.shape, contiguous(values.shape))


def views(arrays, kind="FloatStorage", transposed=False):
    """Tensors by name that lie one behind the other in a single storage, matrices transposed if asked."""
    laid = {name: a.T if transposed and a.ndim == 2 else a for name, a in arrays.items()}
    storage = tensor(numpy.concatenate([a.reshape(-1) for a in laid.values()]), kind).storage
    found, offset = {}, 0
    for name, a in arrays.items():
        stride = (1, a.shape[0]) if transposed and a.ndim == 2 else contiguous(a.shape)
        found[name] = Tensor(storage, offset, a.shape, stride)
        offset += a.size
    return found


def to_bfloat16(values):
    """The upper halves of float32 values, rounded to nearest even."""
    bits = numpy.ascontiguousarray(values, numpy.float32).view(numpy.uint32).astype(numpy.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


def from_bfloat16(halves):
    return (halves.astype(numpy.uint32) << 16).view(numpy.float32)


def round_bfloat16(values):
    return from_bfloat16(to_bfloat16(values)).reshape(numpy.shape(values))


class _Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages, self.identifiers = [], {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        if id(value) not in self.identifiers:
            kind, key = getattr(torch, value.kind), str(len(self.storages))
            self.storages.append(value)
            self.identifiers[id(value)] = "storage", kind, key, "cpu", len(value.values)
        return self.identifiers[id(value)]


def save(path, value, stem="archive", zip64=False):
    """Writes `value`, in which tensors are `Tensor`s. The bytes depend on nothing but the arguments."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(value)
    members = [("data.pkl", buffer.getvalue()), ("byteorder", b"little")]
    members += [(f"data/{key}", storage.values.tobytes()) for key, storage in enumerate(pickler.storages)]
    members.append(("version", b"3\n"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            with archive.open(zipfile.ZipInfo(f"{stem}/{name}"), "w", force_zip64=zip64) as member:
                member.write(content)
