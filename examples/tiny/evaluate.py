#!/usr/bin/env python3
"""Evaluates `tiny.pt` with a small reference written apart from the trainer (NumPy; torch only opens the file).

    python examples/tiny/evaluate.py bits                              # held-out bits per byte of heldout.txt
    python examples/tiny/evaluate.py generate --prompt "This function returns" --temperature 0.7
    python examples/tiny/evaluate.py golden FOLDER                     # check this reference against a golden checkpoint

The reference covers byte models with an MLGRU backbone and a LocalByteDecoder, with or without FPResidual: float32
arithmetic, int8 activations, exact integer sums, recurrence in the order of the stream. It is meant to be read beside
the model's description rather than to be fast.

`bits` takes the file as ONE stream. Byte i is predicted from exactly the bytes before it: the start patch and the full
patches before it through the recurrent state, the bytes of its own patch through the decoder. The number printed is
the mean of -log2 p(byte) over all bytes of the file, the first and the last one included.
"""

import argparse
import json
import os
import sys

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
f32 = np.float32


class Ternary:
    def __init__(self, entry):
        rows, cols = entry["shape"]
        packed = entry["packed"].numpy()
        assert packed.shape == (rows, (cols + 3) // 4)
        codes = ((packed[:, :, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).reshape(rows, -1)
        assert not (codes == 3).any() and not codes[:, cols:].any()
        codes = codes[:, :cols]
        self.t = (codes == 1).astype(f32) - (codes == 2).astype(f32)
        self.scale = f32(entry["scale"].float().item())


def sigmoid(x):
    return f32(1) / (f32(1) + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


class Reference:
    def __init__(self, path, act_quant=None):
        file = torch.load(path, weights_only=True)
        assert file["format"] == "compact_2bit" and file["version"] == 1
        self.c = c = file["config"]
        assert c["tokenizer"] == "bytes" and c["backbone"] == "mlgru" and c["decoder"] == "lbd" and c["ternary"]
        assert c["use_w_o"] and not (c["bolmo"] or c["delete_gate"] or c["pfnet_hidden"] or c["decay_learned"])
        self.step, self.act_quant = file["step"], c["act_quant"] if act_quant is None else act_quant
        self.w = {name: Ternary(entry) if isinstance(entry, dict) else entry.float().numpy()
                  for name, entry in file["state"].items()}
        self.parameters = sum(w.t.size if isinstance(w, Ternary) else w.size for w in self.w.values())

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + f32(self.c["norm_eps"])) * self.w[name]

    def linear(self, x, name):
        w = self.w[name]
        if not self.act_quant:
            return w.scale * (x @ w.t.T)
        s = f32(127) / np.maximum(np.abs(x).max(-1, keepdims=True), f32(1e-5))
        q = np.clip(np.rint(x * s), -128, 127)
        # Whole numbers whose sums stay below 2^24: the float32 product is the exact integer product.
        assert w.t.shape[1] * 128 < 1 << 24
        return (q @ w.t.T) * (w.scale / s)

    def embed(self, indices, name):
        w = self.w[name]
        return w.scale * w.t[indices]

    def zero_state(self):
        return [np.zeros(self.c["d_model"], f32) for _ in range(self.c["n_layers"])]

    def advance(self, patches, state):
        """Feeds whole patches [n, 4]; returns the global state after each [n, d] and the new recurrent states."""
        x = self.linear(self.embed(patches, "patch_embed.byte_embed.weight").reshape(len(patches), -1), "patch_embed.proj.weight")
        after = []
        for i, h in enumerate(state):
            n = f"layers.{i}."
            y = self.norm(x, n + "mixer_norm.weight")
            z = [self.linear(y, f"{n}mixer.w_{k}.weight") for k in "fcg"]
            if self.c["fp_residual_rank"]:
                a, b = self.w[n + "mixer.fp_res.a"], self.w[n + "mixer.fp_res.b"]
                z = [z[k] + (y @ a[k].T) @ b[k].T for k in range(3)]
            f, c, g = sigmoid(z[0]), silu(z[1]), sigmoid(z[2])
            hs = np.empty_like(f)
            for t in range(len(f)):
                h = f[t] * h + (1 - f[t]) * c[t]
                hs[t] = h
            after.append(h)
            x = x + self.linear(self.norm(g * hs, n + "mixer.o_norm.weight"), n + "mixer.w_o.weight")
            y = self.norm(x, n + "ffn_norm.weight")
            a = silu(self.linear(y, n + "ffn.w_gate.weight")) * self.linear(y, n + "ffn.w_up.weight")
            x = x + self.linear(self.norm(a, n + "ffn.down_norm.weight"), n + "ffn.w_down.weight")
        return self.norm(x, "norm.weight"), after

    def decode(self, y, patch):
        """Logits [n, 4, 256] of the bytes `patch` [n, 4] that follow the global states y; row i ignores bytes i and on."""
        l, heads, n = self.c["lbd_dim"], self.c["lbd_heads"], len(y)
        s = self.linear(y, "lbd.proj.weight").reshape(n, 4, l) + self.w["lbd.pos"]
        s[:, 1:] += self.embed(patch[:, :3], "lbd.byte_embed.weight")
        for j in range(self.c["lbd_layers"]):
            p = f"lbd.layers.{j}."
            m = self.norm(s, p + "attn_norm.weight")
            q, k, v = (self.linear(m, f"{p}w_{x}.weight").reshape(n, 4, heads, l // heads).transpose(0, 2, 1, 3) for x in "qkv")
            score = q @ k.transpose(0, 1, 3, 2) / np.sqrt(f32(l // heads))
            score = np.where(np.tril(np.ones((4, 4), bool)), score, f32(-np.inf))
            score = np.exp(score - score.max(-1, keepdims=True))
            o = (score / score.sum(-1, keepdims=True)) @ v
            s = s + self.linear(o.transpose(0, 2, 1, 3).reshape(n, 4, l), p + "w_o.weight")
            m = self.norm(s, p + "ffn_norm.weight")
            a = silu(self.linear(m, p + "w_gate.weight")) * self.linear(m, p + "w_up.weight")
            s = s + self.linear(a, p + "w_down.weight")
        return self.linear(self.norm(s, "lbd.norm.weight"), "lbd.head.weight")

    def logits(self, data, chunk=1024):
        """Yields logits [k, 256] that together have one row for each byte of the stream and one for a byte after it."""
        full, rows = len(data) // 4, len(data) + 1
        target = np.concatenate([np.frombuffer(data, np.uint8), np.zeros(-len(data) % 4 or 4, np.uint8)]).reshape(-1, 4)
        patches = np.concatenate([np.zeros((1, 4), np.uint8), target[:full]])
        state = self.zero_state()
        for at in range(0, len(patches), chunk):
            y, state = self.advance(patches[at:at + chunk], state)
            out = self.decode(y, target[at:at + chunk]).reshape(-1, 256)
            yield out[:rows - 4 * at]

    def bits(self, data):
        total, at = 0.0, 0
        for rows in self.logits(data):
            known = np.frombuffer(data[at:at + len(rows)], np.uint8)
            rows = rows[:len(known)].astype(np.float64)
            top = rows.max(-1)
            total += np.sum(top + np.log(np.exp(rows - top[:, None]).sum(-1)) - rows[np.arange(len(known)), known])
            at += len(known)
        assert at == len(data)
        return total / np.log(2) / len(data)

    def generate(self, prompt, count, temperature=0.0, seed=0):
        """Feeds bytes one at a time; yields the bytes after the prompt (argmax, lowest index on a tie, or sampled)."""
        rng = np.random.default_rng(seed)
        y, state = self.advance(np.zeros((1, 4), np.uint8), self.zero_state())
        pending = []
        for i in range(len(prompt) + count):
            if i < len(prompt):
                byte = prompt[i]
            else:
                row = self.decode(y, np.array([pending + [0] * (4 - len(pending))], np.uint8))[0, len(pending)].astype(np.float64)
                if temperature:
                    p = np.exp((row - row.max()) / temperature)
                    byte = int(rng.choice(256, p=p / p.sum()))
                else:
                    byte = int(row.argmax())
                yield byte
            pending.append(byte)
            if len(pending) == 4:
                y, state = self.advance(np.array([pending], np.uint8), state)
                pending = []


def golden(folder):
    with open(os.path.join(folder, "golden.json")) as file:
        g = json.load(file)
    path = [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n.endswith("_final.pt")][0]
    stream = bytes(g["prompt"] + g["greedy"])
    out = np.concatenate(list(Reference(path).logits(stream))).astype(np.float64)
    bare = np.concatenate(list(Reference(path, act_quant=False).logits(stream))).astype(np.float64)
    want = np.array(g["logits"])
    relative = (np.linalg.norm(out - want, axis=1) / np.linalg.norm(want, axis=1)).max()
    absolute = np.abs(bare - np.array(g["logits_noquant"])).max()
    greedy = list(Reference(path).generate(bytes(g["prompt"]), len(g["greedy"])))
    first = next((i for i, (a, b) in enumerate(zip(greedy, g["greedy"])) if a != b), None)
    continued = first is None or g["greedy_margin"][first] < g["greedy_excuse_margin"]
    bare_greedy = list(Reference(path, act_quant=False).generate(bytes(g["prompt"]), len(g["greedy_noquant"]))) == g["greedy_noquant"]
    print(f"logits          largest relative error of a row {relative:.5f}, allowed {g['tolerance_row_rel_l2']}")
    print(f"logits_noquant  largest error {absolute:.6f}, allowed {g['noquant_tolerance_abs']}")
    print(f"greedy          {'equal' if first is None else f'differs first at step {first}'}")
    print(f"greedy_noquant  {'equal' if bare_greedy else 'differs'}")
    ok = out.shape == want.shape and relative <= g["tolerance_row_rel_l2"] and absolute <= g["noquant_tolerance_abs"] and continued and bare_greedy
    print("pass" if ok else "FAIL")
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.path.join(HERE, "tiny.pt"))
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("bits", help="bits per byte of a text")
    mode.add_argument("text", nargs="?", default=os.path.join(HERE, "heldout.txt"))
    mode = modes.add_parser("generate", help="continue a prompt")
    mode.add_argument("--prompt", default="")
    mode.add_argument("--bytes", type=int, default=300)
    mode.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    mode.add_argument("--seed", type=int, default=0)
    mode = modes.add_parser("golden", help="check this reference against a golden folder with a *_final.pt of this kind")
    mode.add_argument("folder")
    args = parser.parse_args()

    if args.mode == "golden":
        sys.exit(0 if golden(args.folder) else 1)
    model = Reference(args.model)
    if args.mode == "bits":
        with open(args.text, "rb") as file:
            data = file.read()
        print(f"{model.parameters} parameters, trained for {model.step} steps")
        print(f"{model.bits(data):.4f} bits per byte over {len(data)} bytes")
    else:
        prompt = args.prompt.encode()
        out = bytes(model.generate(prompt, args.bytes, args.temperature, args.seed))
        print((prompt + out).decode(errors="replace"))


if __name__ == "__main__":
    main()
