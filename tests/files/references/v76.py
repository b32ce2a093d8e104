"""Plain NumPy reference of the pointer models, and the cases made with it: `python3 v76.py` writes them all again."""

import itertools
import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy

import torch_files

F32, F64 = numpy.float32, numpy.float64

DEFAULTS = {
    "arch": "bitnet1", "name": "", "max_seq_len": 1024, "mlp_type": "swiglu", "norm_eps": 1e-5, "tie_head": True,
    "act_quant": "none", "quant_mix": 1.0, "use_rwsp": False, "rwsp_k": 4, "rwsp_gamma": 0.5, "use_kshift": False,
    "kshift_layers": [], "use_alibi": True, "bos_token_id": None, "eos_token_id": None,
}


@dataclass
class Signs:
    """A packed weight: -1 or +1 and one scale a row."""

    signs: numpy.ndarray
    alpha: numpy.ndarray


def pack(latent):
    """Signs (zeros of either sign count as +1) and the mean magnitude of each row."""
    alpha = numpy.abs(latent).mean(1, dtype=F64).astype(F32)
    return Signs(numpy.where(latent >= 0, F32(1), F32(-1)), alpha)


class Model:
    """`config` is the flat dictionary, `weights` maps names to latent float32 arrays or `Signs`."""

    def __init__(self, config, weights, accumulate=F64):
        self.config, self.weights, self.accumulate = {**DEFAULTS, **config}, weights, accumulate
        self.prepared = {name: self.prepare(weight) for name, weight in weights.items() if "_proj." in name}

    def dot(self, x, matrix):
        """x · matrix over the last axis, in an order that depends on the width alone: equal rows, equal bits."""
        wide = matrix.astype(self.accumulate)
        return numpy.stack([(row.astype(self.accumulate) * wide).sum(-1) for row in x]).astype(F32)

    def prepare(self, weight):
        """The matrix and the scale of each row, or None where the product is an ordinary dense one."""
        mix = self.config["quant_mix"]
        packed = weight if isinstance(weight, Signs) else pack(weight)
        if mix == 1:
            return packed.signs, packed.alpha
        effective = F32(1 - mix) * weight + F32(mix) * (packed.alpha[:, None] * packed.signs)
        return effective, None

    def linear(self, x, name):
        matrix, alpha = self.prepared[name]
        if self.config["act_quant"] == "none":
            y = self.dot(x, matrix)
            return y if alpha is None else alpha * y
        a = numpy.maximum(numpy.abs(x).max(-1, keepdims=True), F32(1e-5))
        q = numpy.clip(numpy.rint(x * (F32(127) / a)), -127, 127).astype(F32)
        if alpha is None:
            return self.dot(q * (a / F32(127)), matrix)
        return self.dot(q, matrix) * (alpha * (a / F32(127)))

    def norm(self, x, name):
        mean = numpy.square(x, dtype=F64).mean(-1, keepdims=True).astype(F32)
        return x * (F32(1) / numpy.sqrt(mean + F32(self.config["norm_eps"]))) * self.weights[name]

    def slopes(self):
        heads = self.config["n_heads"]
        p = 1 << (heads.bit_length() - 1)
        first = [2.0 ** (-8 * (h + 1) / p) for h in range(p)]
        return numpy.array(first + [2.0 ** (-4 * (2 * k + 1) / p) for k in range(heads - p)], F32)

    def attention(self, i, n):
        """The mixed values [T, d], the survivors [H][T][M] and the scores [H, T, T], -inf where not a candidate."""
        config, name = self.config, f"layers.{i}.attn."
        heads, length = config["n_heads"], len(n)
        keys = n
        if config["use_kshift"] and i in config["kshift_layers"]:
            keys = n + numpy.concatenate([numpy.zeros_like(n[:1]), n[:-1]])
        split = lambda a: a.reshape(length, heads, -1).transpose(1, 0, 2)
        q, v = split(self.linear(n, name + "q_proj.weight")), split(self.linear(n, name + "v_proj.weight"))
        k = split(self.linear(keys, name + "k_proj.weight"))
        scores = numpy.stack([self.dot(q[h], k[h]) for h in range(heads)]) * F32(1 / numpy.sqrt(q.shape[-1]))
        distance = numpy.arange(length)[:, None] - numpy.arange(length)[None, :]
        if config["use_alibi"]:
            scores = scores - self.slopes()[:, None, None] * distance.astype(F32)
        scores = numpy.where(distance >= 0, scores, F32(-numpy.inf))
        count = config["rwsp_k"] if config["use_rwsp"] else 1
        gamma = float(config["rwsp_gamma"])
        survivors, mixed = [], numpy.zeros((length, heads, q.shape[-1]), F32)
        for h in range(heads):
            survivors.append([])
            for t in range(length):
                chosen = numpy.argsort(-scores[h, t, : t + 1], kind="stable")[:count]
                powers = numpy.array([gamma**r for r in range(len(chosen))])
                shares = (powers / powers.sum()).astype(F32)
                mixed[t, h] = (shares[:, None].astype(self.accumulate) * v[h, chosen]).sum(0)
                survivors[h].append(chosen.tolist())
        return mixed.reshape(length, -1), survivors, scores

    def mlp(self, i, n):
        name = f"layers.{i}.mlp."
        up = self.linear(n, name + "up_proj.weight")
        z = (self.linear(n, name + "gate_proj.weight") if self.config["mlp_type"] == "swiglu" else up).astype(F64)
        if self.config["mlp_type"] == "swiglu":
            hidden = (z / (1 + numpy.exp(-z))).astype(F32) * up
        else:
            hidden = (0.5 * z * (1 + numpy.tanh(numpy.sqrt(2 / numpy.pi) * (z + 0.044715 * z**3)))).astype(F32)
        return self.linear(hidden, name + "down_proj.weight")

    def forward(self, tokens):
        """Logits [T, V], survivors [L][H][T][M] and scores [L][H, T, T]."""
        x = self.weights["tok_emb.weight"][numpy.array(tokens)]
        survivors, scores = [], []
        for i in range(self.config["n_layers"]):
            o, chosen, s = self.attention(i, self.norm(x, f"layers.{i}.attn_norm.weight"))
            x = x + self.linear(o, f"layers.{i}.attn.o_proj.weight")
            x = x + self.mlp(i, self.norm(x, f"layers.{i}.mlp_norm.weight"))
            survivors.append(chosen)
            scores.append(s)
        head = self.weights["tok_emb.weight" if self.config["tie_head"] else "lm_head.weight"]
        return self.dot(self.norm(x, "final_norm.weight"), head), survivors, scores

    def greedy(self, tokens, count):
        """The continuation by the lowest index of the largest logit, and the margins to the second largest."""
        tokens, new, margins = list(tokens), [], []
        for _ in range(count):
            row = self.forward(tokens)[0][-1]
            best = numpy.sort(row)
            margins.append(float(best[-1] - best[-2]))
            new.append(int(numpy.argmax(row)))
            tokens.append(new[-1])
        return new, margins


def tensors(config):
    """The table of tensors: name to (shape, whether it is 1-bit), in file order."""
    config = {**DEFAULTS, **config}
    vocab, d, ff, table = config["vocab_size"], config["d_model"], config["d_ff"], {}
    add = lambda name, shape, packed=False: table.__setitem__(name + ".weight", (shape, packed))
    add("tok_emb", (vocab, d))
    for i in range(config["n_layers"]):
        add(f"layers.{i}.attn_norm", (d,))
        for part in "qkvo":
            add(f"layers.{i}.attn.{part}_proj", (d, d), True)
        add(f"layers.{i}.mlp_norm", (d,))
        if config["mlp_type"] == "swiglu":
            add(f"layers.{i}.mlp.gate_proj", (ff, d), True)
        add(f"layers.{i}.mlp.up_proj", (ff, d), True)
        add(f"layers.{i}.mlp.down_proj", (d, ff), True)
    add("final_norm", (d,))
    if not config["tie_head"]:
        add("lm_head", (vocab, d))
    return table


def padded(content):
    return content + bytes(-len(content) % 64)


def save_bit2(path, config, weights, alpha="f16", dense="f16"):
    """Writes latent weights as a packed file."""
    kinds, entries, data = {"f16": numpy.float16, "f32": F32}, [], b""
    for name, (shape, packed) in tensors(config).items():
        if not packed:
            blob = weights[name].astype(kinds[dense]).tobytes()
            entries.append({"name": name, "kind": "dense", "dtype": dense, "shape": shape, "offset": len(data),
                            "nbytes": len(blob)})
            data += padded(blob)
            continue
        rows, cols = shape
        bits = numpy.zeros((rows, -(-cols // 64) * 64), numpy.uint8)
        bits[:, :cols] = weights[name] >= 0
        blob = numpy.packbits(bits, 1, bitorder="little").tobytes()
        scales = pack(weights[name]).alpha.astype(kinds[alpha]).tobytes()
        start = len(data)
        data += padded(blob)
        entries.append({"name": name, "kind": "bit1", "shape": shape, "row_stride": bits.shape[1] // 8, "offset": start,
                        "nbytes": len(blob), "alpha_dtype": alpha, "alpha_offset": len(data),
                        "alpha_nbytes": len(scales)})
        data += padded(scales)
    header = json.dumps({"format": "bit2", "version": 1, "config": {**config, "quant_mix": 1.0}, "meta": {},
                         "tensors": entries}).encode()
    start = 64 + -(-len(header) // 64) * 64
    fixed = struct.pack("<8sIIQQQI20x", b"BIT2PACK", 1, 0, len(header), start, start + len(data), zlib.crc32(header))
    with open(path, "wb") as file:
        file.write(fixed + padded(header) + data)


# ---- the cases ----------------------------------------------------------------------------------------------------

COMMON = {
    "arch": "bitnet1", "vocab_size": 24, "d_model": 20, "n_layers": 2, "n_heads": 5, "d_ff": 21, "max_seq_len": 64,
}


@dataclass
class Case:
    """What differs from the common config, and how the file is written: `stored` is a torch storage or the type of the
    scales and dense tensors of a packed file. Few different `tokens` give many ties."""

    changes: dict
    stored: str = "HalfStorage"
    prefix: str = ""
    beside: dict = field(default_factory=dict)
    tokens: int = 24


CASES = {
    "gelu_int8_untied": Case({"mlp_type": "gelu", "act_quant": "int8", "tie_head": False, "use_alibi": False}),
    "mix_beside_the_weights": Case(
        {"use_rwsp": True, "rwsp_k": 3, "use_kshift": True, "kshift_layers": [0, 1]},
        prefix="module._orig_mod.",
        beside={"step": 300, "val_bpc": 5.5, "quant_mix": 0.3},
    ),
    "mix_zero_int8": Case({"quant_mix": 0.0, "act_quant": "int8", "n_heads": 4, "use_alibi": False}, "BFloat16Storage"),
    "ties": Case(
        {"n_layers": 1, "use_rwsp": True, "rwsp_k": 4, "rwsp_gamma": 1.0, "use_kshift": True, "kshift_layers": [0],
         "use_alibi": False, "tie_head": False},
        "f16",
        tokens=3,
    ),
    "twelve_heads": Case(
        {"d_model": 24, "n_heads": 12, "use_rwsp": True, "rwsp_k": 4, "rwsp_gamma": 0.0, "use_kshift": True,
         "kshift_layers": [1]},
        "f32",
    ),
}


def latents(config, random):
    """Latent weights by name, exact in half precision and bfloat16, a few of them zeros of either sign."""
    weights = {}
    for name, (shape, packed) in tensors(config).items():
        values = random.standard_normal(shape)
        if packed or name == "lm_head.weight":
            values *= 2 / numpy.sqrt(shape[-1])
        if "norm" in name:
            values = 1 + 0.3 * values
        if packed:
            values[random.random(shape) < 0.03] = 0.0
            values[random.random(shape) < 0.03] = -0.0
        weights[name] = torch_files.round_bfloat16(values).astype(numpy.float16).astype(F32)
    return weights


def gap(scores, count):
    """The smallest difference, ties apart, between neighbours among the best `count` + 1 scores of any position."""
    smallest = numpy.inf
    for layer in scores:
        for t in range(layer.shape[1]):
            best = -numpy.sort(-layer[:, t, : t + 1].astype(F64))[:, : count + 1]
            steps = best[:, :-1] - best[:, 1:]
            smallest = min(smallest, steps[steps > 0].min(initial=numpy.inf))
    return smallest


def draw(case, seed):
    """The config, weights and document of a case, or nothing if another order of sums could give other pointers."""
    config = {**COMMON, **case.changes}
    random = numpy.random.default_rng(seed)
    weights, tokens = latents(config, random), random.integers(0, case.tokens, 20).tolist()
    effective, known = {**config, **{k: v for k, v in case.beside.items() if k in DEFAULTS}}, weights
    if case.stored in ("f16", "f32"):
        known = {n: as_stored(w, case.stored) if tensors(config)[n][1] else w for n, w in weights.items()}
    model, other = Model(effective, known), Model(effective, known, F32)
    (logits, survivors, scores), (others, also, _) = model.forward(tokens), other.forward(tokens)
    count = config.get("rwsp_k", 4) if config.get("use_rwsp") else 1
    if survivors != also or gap(scores, count) < 1e-3 or numpy.abs(logits - others).max() > 5e-5:
        return None
    run = {
        "overrides": {},
        "tolerance": {"absolute": 0.0002},
        "logits": [[round(float(x), 4) for x in row] for row in logits],
        "survivors": survivors,
    }
    greedy, margins = model.greedy(tokens, 6)
    if min(margins) > 0.02:
        run["greedy"] = greedy
    return config, weights, {"elements": tokens, "columns": list(range(config["vocab_size"])), "runs": [run]}


def as_stored(latent, kind):
    packed = pack(latent)
    return Signs(packed.signs, packed.alpha.astype({"f16": numpy.float16, "f32": F32}[kind]).astype(F32))


def write(name, case):
    config, weights, document = next(filter(None, (draw(case, seed) for seed in itertools.count(1))))
    folder = Path(__file__).parent / name
    folder.mkdir(exist_ok=True)
    if case.stored in ("f16", "f32"):
        save_bit2(folder / "checkpoint.bit2", config, weights, case.stored, case.stored)
    else:
        state = torch_files.views({case.prefix + n: w for n, w in weights.items()}, case.stored, transposed=True)
        whole = {"model": state, "config": config, **case.beside} if case.beside else state
        torch_files.save(folder / "checkpoint.pt", whole, zip64=True)
    (folder / "config.json").write_text(json.dumps(config) + "\n")
    (folder / "expected.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    for name, case in CASES.items():
        write(name, case)
