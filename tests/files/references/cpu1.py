"""Plain NumPy reference of the ablation runs, and the cases made with it: `python3 cpu1.py` writes them all again."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy

import torch_files
from torch_files import round_bfloat16

F32 = numpy.float32


@dataclass
class Ternary:
    """Codes -1, 0, +1 and the one scale of a tensor."""

    codes: numpy.ndarray
    scale: numpy.float32


def ternary(latent):
    """Absmean ternarisation; a tensor whose non-zero entries share one magnitude is already ternary."""
    latent = numpy.asarray(latent, F32)
    magnitudes = numpy.unique(numpy.abs(latent[latent != 0]))
    if len(magnitudes) == 1:
        return Ternary(numpy.sign(latent).astype(numpy.int8), F32(round_bfloat16(magnitudes[0])))
    gamma = max(F32(numpy.mean(numpy.abs(latent), dtype=numpy.float64)), F32(1e-5))
    return Ternary(numpy.clip(numpy.rint(latent / gamma), -1, 1).astype(numpy.int8), F32(round_bfloat16(gamma)))


def product(x, matrix):
    """x · matrix over the last axis, accumulated in float64."""
    return (x.astype(numpy.float64) @ matrix.T.astype(numpy.float64)).astype(F32)


def sigmoid(x):
    x = x.astype(numpy.float64)
    with numpy.errstate(over="ignore"):
        return (1 / (1 + numpy.exp(-x))).astype(F32)


def silu(x):
    return x * sigmoid(x)


def softmax(scores):
    exponentials = numpy.exp((scores - scores.max(-1, keepdims=True)).astype(numpy.float64))
    return (exponentials / exponentials.sum(-1, keepdims=True)).astype(F32)


class Model:
    """One run: `config` is the flat dictionary, `weights` maps names to float32 arrays or `Ternary`."""

    def __init__(self, config, weights):
        self.config, self.weights = config, weights

    # -- operators

    def linear(self, x, name):
        weight = self.weights[name]
        if not isinstance(weight, Ternary):
            return product(x, weight)
        if not self.config["act_quant"]:
            return weight.scale * product(x, weight.codes)
        scale = F32(127) / numpy.maximum(numpy.abs(x).max(-1, keepdims=True), F32(1e-5))
        quantised = numpy.clip(numpy.rint(x * scale), -128, 127)
        return product(quantised, weight.codes) * (weight.scale / scale)

    def embedding(self, indices, name):
        weight = self.weights[name]
        if isinstance(weight, Ternary):
            return weight.scale * weight.codes[indices].astype(F32)
        return weight[indices]

    def norm(self, x, name=None):
        mean = numpy.mean(numpy.square(x, dtype=numpy.float64), -1, keepdims=True).astype(F32)
        y = x / numpy.sqrt(mean + F32(self.config["norm_eps"]))
        return y * self.weights[name] if name else y

    def attention(self, q, k, v, heads, visible):
        """Softmax attention over [positions, width] arrays; `visible[t, s]` says whether t sees s."""
        split = lambda a: a.reshape(len(a), heads, -1).transpose(1, 0, 2).astype(numpy.float64)
        q, k, v = split(q), split(k), split(v)
        scores = (q @ k.transpose(0, 2, 1) / numpy.sqrt(q.shape[-1])).astype(F32)
        scores = numpy.where(visible, scores, F32(-numpy.inf))
        mixed = softmax(scores).astype(numpy.float64) @ v
        return mixed.transpose(1, 0, 2).reshape(mixed.shape[1], -1).astype(F32)

    # -- input

    def embed_tokens(self, tokens):
        return self.embedding(numpy.array(tokens), "embed.weight")

    def embed_patches(self, patches):
        """[patches, P] bytes to [patches, d]; the first patch is the start patch."""
        name = "patch_embed."
        e = self.embedding(patches, name + "byte_embed.weight")
        c = e.reshape(len(e), -1)
        if self.config["bolmo"]:
            before = numpy.concatenate([[0], patches[:-1, -1]])
            previous = numpy.concatenate([self.embedding(before, name + "byte_embed.weight")[:, None], e[:, :-1]], 1)
            p = self.boundaries(previous, e)
            p[0, 0] = 1
            c = c + self.linear(self.pool(c, e, p), name + "w_o.weight")
        return self.linear(c, name + "proj.weight")

    def boundaries(self, previous, e):
        a = product(previous, self.weights["patch_embed.boundary_q.weight"])
        b = product(e, self.weights["patch_embed.boundary_k.weight"])
        length = lambda v: numpy.sqrt(numpy.square(v, dtype=numpy.float64).sum(-1, keepdims=True))
        unit = lambda v: v / numpy.maximum(length(v), 1e-12)
        return ((1 - (unit(a) * unit(b)).sum(-1)) / 2).astype(F32)

    def pool(self, c, e, p):
        """Attention of the whole patch over its bytes, biased towards boundaries."""
        name, heads = "patch_embed.", self.config["bolmo_heads"]
        q = self.linear(self.norm(c, name + "q_norm.weight"), name + "w_q.weight")
        u = self.norm(self.linear(e, name + "w_up.weight"), name + "kv_norm.weight")
        k, v = self.linear(u, name + "w_k.weight"), self.linear(u, name + "w_v.weight")
        n, patch, width = k.shape
        q = q.reshape(n, 1, heads, -1).astype(numpy.float64)
        k, v = k.reshape(n, patch, heads, -1), v.reshape(n, patch, heads, -1)
        scores = (q * k).sum(-1) / numpy.sqrt(width // heads)
        scores = scores + numpy.log(numpy.maximum(p, 1e-6))[:, :, None]
        shares = softmax(scores.transpose(0, 2, 1).astype(F32)).transpose(0, 2, 1)
        return (shares[..., None].astype(numpy.float64) * v).sum(1).reshape(n, width).astype(F32)

    # -- backbone

    def layer(self, i, x, positions):
        name = f"layers.{i}."
        mixer = self.recurrence if self.config["backbone"] == "mlgru" else self.self_attention
        x = x + mixer(name + "mixer.", self.norm(x, name + "mixer_norm.weight"), positions)
        y = self.norm(x, name + "ffn_norm.weight")
        a = silu(self.linear(y, name + "ffn.w_gate.weight")) * self.linear(y, name + "ffn.w_up.weight")
        if self.config["ternary"]:
            a = self.norm(a, name + "ffn.down_norm.weight")
        x = x + self.linear(a, name + "ffn.w_down.weight")
        if self.config["pfnet_hidden"]:
            hidden = silu(self.linear(self.norm(x), name + "pfnet.w1.weight"))
            x = x + self.linear(hidden, name + "pfnet.w2.weight")
        return x

    def mixer_output(self, name, o):
        if not self.config["use_w_o"]:
            return o
        if self.config["ternary"]:
            o = self.norm(o, name + "o_norm.weight")
        return self.linear(o, name + "w_o.weight")

    def self_attention(self, name, y, positions):
        heads = self.config["n_heads"]
        q, k, v = (self.linear(y, f"{name}w_{part}.weight") for part in "qkv")
        q, k = self.rotate(q, positions), self.rotate(k, positions)
        distance = positions[:, None] - positions[None, :]
        visible = distance >= 0
        if self.config["window"]:
            visible &= distance < self.config["window"]
        return self.mixer_output(name, self.attention(q, k, v, heads, visible))

    def rotate(self, x, positions):
        heads = self.config["n_heads"]
        x = x.reshape(len(x), heads, -1)
        half = x.shape[-1] // 2
        rates = float(self.config["rope_base"]) ** (-numpy.arange(half) / half)
        angles = positions[:, None, None] * rates
        cos, sin = numpy.cos(angles), numpy.sin(angles)
        a, b = x[..., :half], x[..., half:]
        return numpy.concatenate([a * cos - b * sin, b * cos + a * sin], -1).reshape(len(x), -1).astype(F32)

    def recurrence(self, name, y, positions):
        gates = []
        for k, part in enumerate("fcg"):
            z = self.linear(y, f"{name}w_{part}.weight")
            if self.config["fp_residual_rank"]:
                low = product(y, self.weights[name + "fp_res.a"][k])
                z = z + product(low, self.weights[name + "fp_res.b"][k])
            gates.append(z)
        f, c, g = sigmoid(gates[0]), silu(gates[1]), sigmoid(gates[2])
        if self.config["decay_learned"]:
            floor = sigmoid(self.weights[name + "decay"])
            f = floor + (1 - floor) * f
        h, states = numpy.zeros(y.shape[1], F32), []
        for t in range(len(y)):
            h = f[t] * h + (1 - f[t]) * c[t]
            states.append(h)
        return self.mixer_output(name, g * numpy.array(states))

    def gate(self, x):
        w = self.weights
        hidden = silu(product(self.norm(x), w["delete_gate.fc1.weight"]) + w["delete_gate.fc1.bias"])
        return (product(hidden, w["delete_gate.fc2.weight"]) + w["delete_gate.fc2.bias"])[:, 0]

    def backbone(self, x):
        """The normalised states of all positions, the gate values and the kept positions."""
        positions, kept, z, layers = numpy.arange(len(x)), numpy.arange(len(x)), None, self.config["n_layers"]
        split = self.config["delete_layer"] if self.config["delete_gate"] else layers
        for i in range(split):
            x = self.layer(i, x, positions)
        if self.config["delete_gate"]:
            z = self.gate(x)
            kept = numpy.flatnonzero(z > 0)
            upper = x[kept]
            if len(kept):
                for i in range(split, layers):
                    upper = self.layer(i, upper, positions[kept])
            x = x.copy()
            x[kept] = upper
        return self.norm(x, "norm.weight"), z, kept

    # -- decoders

    def decode_patch(self, y, known):
        """Logits of the bytes after the `known` prefix of the patch that follows state `y`: len(known) + 1 rows."""
        if self.config["decoder"] == "byte_heads":
            return numpy.stack([self.linear(y, f"byte_heads.{k}.weight") for k in range(len(known) + 1)])
        width, patch = self.config["lbd_dim"], self.config["patch_size"]
        s = self.linear(y, "lbd.proj.weight").reshape(patch, width) + self.weights["lbd.pos"]
        s = s[: len(known) + 1].copy()
        if len(known):
            s[1:] += self.embedding(numpy.array(known), "lbd.byte_embed.weight")
        causal = numpy.tril(numpy.ones((len(s), len(s)), bool))
        for j in range(self.config["lbd_layers"]):
            name = f"lbd.layers.{j}."
            n = self.norm(s, name + "attn_norm.weight")
            q, k, v = (self.linear(n, f"{name}w_{part}.weight") for part in "qkv")
            s = s + self.linear(self.attention(q, k, v, self.config["lbd_heads"], causal), name + "w_o.weight")
            n = self.norm(s, name + "ffn_norm.weight")
            a = silu(self.linear(n, name + "w_gate.weight")) * self.linear(n, name + "w_up.weight")
            s = s + self.linear(a, name + "w_down.weight")
        return self.linear(self.norm(s, "lbd.norm.weight"), "lbd.head.weight")

    def forward(self, elements):
        """Logits of every position, gate values (or None) and kept positions. Bytes: row i predicts element i, one row
        more than elements. Tokens: row i predicts element i + 1."""
        if self.config["tokenizer"] == "bpe":
            y, z, kept = self.backbone(self.embed_tokens(elements or [0]))
            return self.linear(y, "head.weight"), z, kept
        y, z, kept, size = *self.states(elements), self.config["patch_size"]
        rows = []
        for t in range(len(y)):
            following = elements[t * size : (t + 1) * size]
            rows.append(self.decode_patch(y[t], following[: size - 1]))
        return numpy.concatenate(rows), z, kept

    def states(self, elements):
        size = self.config["patch_size"]
        whole = len(elements) // size * size
        patches = numpy.array([0] * size + list(elements[:whole])).reshape(-1, size)
        return self.backbone(self.embed_patches(patches))

    def greedy(self, elements, count):
        """The continuation by the lowest index of the largest logit, and the margins to the second largest."""
        elements, new, margins = list(elements), [], []
        if self.config["tokenizer"] == "bpe":
            elements = elements or [0]
        for _ in range(count):
            if self.config["tokenizer"] == "bpe":
                row = self.linear(self.backbone(self.embed_tokens(elements))[0][-1], "head.weight")
            else:
                pending = elements[len(elements) // self.config["patch_size"] * self.config["patch_size"] :]
                row = self.decode_patch(self.states(elements)[0][-1], pending)[-1]
            best = numpy.sort(row)
            margins.append(float(best[-1] - best[-2]))
            new.append(int(numpy.argmax(row)))
            elements.append(new[-1])
        return new, margins


def tensors(config):
    """The table of tensors: name to (shape, whether it is a ternary tensor in ternary runs), in file order."""
    d, e, width = config["d_model"], config["byte_dim"], config["byte_dim"] * config["patch_size"]
    l, ff, r = config["lbd_dim"], config["lbd_ff"], config["fp_residual_rank"]
    table = {}
    add = lambda name, *shape: table.__setitem__(name + ".weight", (shape, True))
    plain = lambda name, *shape: table.__setitem__(name, (shape, False))
    if config["tokenizer"] == "bpe":
        add("embed", config["vocab_size"], d)
        add("head", config["vocab_size"], d)
    else:
        add("patch_embed.byte_embed", 256, e)
        add("patch_embed.proj", d, width)
    if config["bolmo"]:
        plain("patch_embed.boundary_q.weight", e, e)
        plain("patch_embed.boundary_k.weight", e, e)
        add("patch_embed.w_up", width, e)
        plain("patch_embed.q_norm.weight", width)
        plain("patch_embed.kv_norm.weight", width)
        for part in "qkvo":
            add(f"patch_embed.w_{part}", width, width)
    for i in range(config["n_layers"]):
        name = f"layers.{i}."
        plain(name + "mixer_norm.weight", d)
        plain(name + "ffn_norm.weight", d)
        for part in "fcg" if config["backbone"] == "mlgru" else "qkv":
            add(f"{name}mixer.w_{part}", d, d)
        if config["decay_learned"]:
            plain(name + "mixer.decay", d)
        if r:
            plain(name + "mixer.fp_res.a", 3, r, d)
            plain(name + "mixer.fp_res.b", 3, d, r)
        if config["use_w_o"]:
            add(name + "mixer.w_o", d, d)
            if config["ternary"]:
                plain(name + "mixer.o_norm.weight", d)
        add(name + "ffn.w_gate", config["d_ff"], d)
        add(name + "ffn.w_up", config["d_ff"], d)
        add(name + "ffn.w_down", d, config["d_ff"])
        if config["ternary"]:
            plain(name + "ffn.down_norm.weight", config["d_ff"])
        if config["pfnet_hidden"]:
            add(name + "pfnet.w1", config["pfnet_hidden"], d)
            add(name + "pfnet.w2", d, config["pfnet_hidden"])
    if config["delete_gate"]:
        hidden = config["delete_gate_hidden"]
        plain("delete_gate.fc1.weight", hidden, d)
        plain("delete_gate.fc1.bias", hidden)
        plain("delete_gate.fc2.weight", 1, hidden)
        plain("delete_gate.fc2.bias", 1)
    plain("norm.weight", d)
    if config["decoder"] == "byte_heads":
        for k in range(config["patch_size"]):
            add(f"byte_heads.{k}", 256, d)
    if config["decoder"] == "lbd":
        add("lbd.proj", config["patch_size"] * l, d)
        add("lbd.byte_embed", 256, l)
        plain("lbd.pos", config["patch_size"], l)
        for j in range(config["lbd_layers"]):
            name = f"lbd.layers.{j}."
            plain(name + "attn_norm.weight", l)
            plain(name + "ffn_norm.weight", l)
            for part in "qkvo":
                add(f"{name}w_{part}", l, l)
            add(name + "w_gate", ff, l)
            add(name + "w_up", ff, l)
            add(name + "w_down", l, ff)
        plain("lbd.norm.weight", l)
        add("lbd.head", 256, l)
    if config["aligner_dim"]:
        plain("aligner.proj.weight", config["aligner_dim"], d)
    return table


# ---- the cases ----------------------------------------------------------------------------------------------------

COMMON = {
    "d_model": 18, "n_layers": 2, "d_ff": 17, "n_heads": 2, "tokenizer": "bytes", "vocab_size": 256, "patch_size": 4,
    "byte_dim": 4, "backbone": "mlgru", "window": 0, "rope_base": 10000.0, "ternary": True, "fp_residual_rank": 2,
    "use_w_o": True, "bolmo": False, "bolmo_heads": 0, "delete_gate": False, "delete_layer": -1,
    "delete_gate_hidden": 0, "pfnet_hidden": 0, "decay_learned": False, "decoder": "lbd", "lbd_dim": 6,
    "lbd_layers": 1, "lbd_heads": 2, "lbd_ff": 10, "aligner_dim": 0, "norm_eps": 1e-6, "act_quant": True,
}
BOLMO = {"bolmo": True, "bolmo_heads": 4}
GATE = {"delete_gate": True, "delete_layer": 1, "delete_gate_hidden": 4}
TOKENS = {
    "tokenizer": "bpe", "vocab_size": 48, "patch_size": 1, "byte_dim": 0, "decoder": "softmax_head", "lbd_dim": 0,
    "lbd_layers": 0, "lbd_heads": 0, "lbd_ff": 0,
}
TRANSFORMER = {"backbone": "transformer", "fp_residual_rank": 0}
FOLDED = {"backbone": "folded_transformer", "n_heads": 3, "window": 3, "fp_residual_rank": 0}
FLOAT = {"ternary": False, "act_quant": False, "fp_residual_rank": 0}


@dataclass
class Case:
    """What differs from the common config; the layout of the file; which positions the gate deletes; the elements."""

    changes: dict
    layout: str = "compact"
    deletes: str = "some"
    length: int = 18


CASES = {
    "float_transformer_lbd": Case({**FLOAT, **TRANSFORMER, "d_model": 8}, "training", length=19),
    "fp_residual": Case({"d_model": 22, "byte_dim": 6}, length=13),
    "without_w_o": Case({"use_w_o": False, "d_model": 8, "byte_dim": 2}, "float32"),
    "bolmo": Case({**BOLMO, "byte_dim": 6}),
    "window_shorter_than_text": Case(FOLDED, length=26),
    "window_and_gate": Case({**FOLDED, **GATE, "window": 2}),
    "pfnet": Case({**BOLMO, **GATE, "pfnet_hidden": 9, "d_model": 16}, length=23),
    "decay": Case({**BOLMO, **GATE, "pfnet_hidden": 8, "decay_learned": True}, deletes="start"),
    "tokens_and_gate": Case({**TOKENS, **GATE}),
    "aligner": Case({**BOLMO, **GATE, "aligner_dim": 5, "d_model": 8}, deletes="all", length=17),
}


def latents(config, random):
    """Latent weights by name, all of them exact in bfloat16."""
    weights = {}
    for name, (shape, _) in tensors(config).items():
        values, width = random.standard_normal(shape), shape[-1]
        if name.endswith("norm.weight"):
            values = 1 + 0.3 * values
        elif name == "lbd.pos":
            values = 0.5 * values
        elif "head" in name:
            values = 2.2 * values / numpy.sqrt(width)
        elif not ("embed.weight" in name or "boundary" in name or name.endswith(("decay", "bias"))):
            values = 1.3 * values / numpy.sqrt(width)
        weights[name] = round_bfloat16(values.astype(F32))
    return weights


def prepared(config, weights):
    """The latent weights as a model has them."""
    table = tensors(config)
    return {n: ternary(w) if config["ternary"] and table[n][1] else w for n, w in weights.items()}


def set_gate(config, weights, elements, deletes):
    """Chooses the gate's last bias so that about half of the positions, none, all, or the first too, are deleted."""
    if deletes in ("all", "none"):
        weights["delete_gate.fc2.bias"][:] = 30 if deletes == "none" else -30
        return
    weights["delete_gate.fc2.bias"][:] = 0
    z = Model(config, prepared(config, weights)).forward(elements)[1]
    if (z[0] < numpy.median(z)) != (deletes == "start"):
        weights["delete_gate.fc2.weight"] *= -1
        z = -z
    z = numpy.sort(z)
    middle = z[len(z) // 4 : len(z) // 4 * 3 + 1]
    widest = numpy.argmax(middle[1:] - middle[:-1])
    weights["delete_gate.fc2.bias"][:] = round_bfloat16(-(middle[widest] + middle[widest + 1]) / 2)


def contents(config, weights, layout):
    """What a file of this layout holds. Tensors are views of a few storages, as files of many small ones are long."""
    model = prepared(config, weights)
    if layout == "training":
        state = torch_files.views(weights, "BFloat16Storage", transposed=True)
        moments = {0: {"step": torch_files.tensor(7.0), "exp_avg": torch_files.tensor(numpy.zeros(3))}}
        optimizer = {"state": moments, "param_groups": [{"lr": 0.001, "params": [0]}]}
        return {"model": state, "optimizer": optimizer, "step": 640, "phase": 2, "config": config}
    if layout == "float32":
        # Every second ternary tensor is latent, the others are already scaled codes.
        known = {n: w.scale * w.codes for n, w in list(model.items())[::2] if isinstance(w, Ternary)}
        return torch_files.views({n: known.get(n, w).astype(F32) for n, w in weights.items()})
    packed = {n: pack(w.codes) for n, w in model.items() if isinstance(w, Ternary)}
    plain = {n: numpy.array([w.scale]) if isinstance(w, Ternary) else w for n, w in model.items()}
    packed, plain = torch_files.views(packed, "ByteStorage"), torch_files.views(plain, "BFloat16Storage")
    coded = lambda n: {"packed": packed[n], "scale": plain[n], "shape": list(weights[n].shape)}
    state = {n: coded(n) if n in packed else plain[n] for n in model}
    return {"format": "compact_2bit", "version": 1, "config": config, "step": 640, "state": state}


def pack(codes):
    """Four codes a byte, lowest bits first: 0 is 0, +1 is 1, -1 is 2."""
    padded = numpy.pad(codes & 3, ((0, 0), (0, -codes.shape[1] % 4)))
    padded = numpy.where(padded == 3, 2, padded).astype(numpy.uint8).reshape(len(codes), -1, 4)
    return padded[..., 0] | padded[..., 1] << 2 | padded[..., 2] << 4 | padded[..., 3] << 6


def expected(name, config, model, elements, columns):
    """One run of a case (the logits of some columns, and what all columns come to), and whether the gate is clear."""
    config = {**config, "act_quant": name == "int8"}
    model = Model(config, model)
    logits, z, kept = model.forward(elements)
    largest = logits.max(1).astype(numpy.float64)
    run = {
        "overrides": {"act_quant": config["act_quant"]},
        "tolerance": {"row": 0.06} if name == "int8" else {"absolute": 0.001},
        "logits": [[round(float(x), 4) for x in row] for row in logits[:, columns]],
        "log_sum_exp": (largest + numpy.log(numpy.exp(logits - largest[:, None]).sum(1))).round(4).tolist(),
    }
    greedy, margins = model.greedy(elements, 6)
    if min(margins) > (0.3 if name == "int8" else 0.02):
        run["greedy"] = greedy
    if z is not None:
        run["kept"] = kept.tolist()
    return run, z is None or numpy.abs(z).min() > 0.1


def draw(name, case, seed):
    """The config, weights and document of a case, or nothing if rounding could turn the gate at some position."""
    config = {"run": name, "internal_name": name, **COMMON, **case.changes}
    random, size = numpy.random.default_rng(seed), config["vocab_size"]
    elements = random.integers(0, size, case.length).tolist()
    weights = latents(config, random)
    if config["delete_gate"]:
        set_gate(config, weights, elements, case.deletes)
    columns = sorted(random.permutation(size)[:8].tolist())
    kinds = ["int8", "plain"] if config["act_quant"] else ["plain"]
    runs = [expected(kind, config, prepared(config, weights), elements, columns) for kind in kinds]
    document = {"elements": elements, "columns": columns, "runs": [run for run, _ in runs]}
    return (config, weights, document) if all(clear for _, clear in runs) else None


def write(name, case):
    drawn = (draw(name, case, seed) for seed in itertools.count(1))
    config, weights, document = next(filter(None, drawn))
    folder = Path(__file__).parent / name
    folder.mkdir(exist_ok=True)
    torch_files.save(folder / "checkpoint.pt", contents(config, weights, case.layout))
    (folder / "config.json").write_text(json.dumps(config) + "\n")
    (folder / "expected.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    for name, case in CASES.items():
        write(name, case)
